//! Undoing what a start has done, if it fails midway.

type Step<'a> = (&'static str, Box<dyn FnOnce() -> anyhow::Result<()> + 'a>);

/// The steps to undo, the last one first, unless [`keep`](Self::keep) is called.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<Step<'a>>,
}

impl<'a> Undo<'a> {
    /// Notes how to undo what has just been done.
    pub fn with(&mut self, what: &'static str, step: impl FnOnce() -> anyhow::Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Everything went well: nothing is undone.
    pub fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            log::info!("rolling back: {what}");
            if let Err(error) = step() {
                log::error!("cannot roll back {what}: {error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn steps_are_taken_back_in_reverse_order_unless_kept() {
        let taken_back = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        for step in 1..=3 {
            let taken_back = &taken_back;
            undo.with("a step", move || {
                taken_back.borrow_mut().push(step);
                Ok(())
            });
        }
        drop(undo);
        assert_eq!(taken_back.take(), [3, 2, 1]);

        let mut undo = Undo::default();
        undo.with("a step", || {
            taken_back.borrow_mut().push(4);
            Ok(())
        });
        undo.keep();
        assert!(taken_back.take().is_empty());
    }
}
