//! Receives on a background thread, until it is told to stop or nothing more comes.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{LIMIT, patient};

/// Read timeout of a receiver's socket. After each, the receiver looks whether it has to stop.
pub const TICK: Duration = Duration::from_millis(10);

pub struct Receiver<T> {
    stop: Sender<Duration>,
    thread: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Receiver<T> {
    /// Starts a thread that calls `receive` again and again. `receive` returns one item, or
    /// [`ErrorKind::WouldBlock`] after a [`TICK`] without one.
    pub fn start(receive: impl FnMut() -> io::Result<T> + Send + 'static) -> Receiver<T> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || collect(receive, || stopped.try_recv()));
        Receiver { stop, thread }
    }

    /// Stops at once, and returns all items up to now, in order.
    pub fn stop_now(self) -> Vec<T> {
        drop(self.stop);
        self.thread.join().expect("the receiving thread")
    }

    /// Waits until no item has come for the time `quiet`, and returns all items in order.
    pub fn stop_after_quiet(self, quiet: Duration) -> Vec<T> {
        // this fails if the thread has panicked; joining it then passes the panic on
        let _ = self.stop.send(patient(quiet));
        self.thread.join().expect("the receiving thread")
    }
}

fn collect<T>(
    mut receive: impl FnMut() -> io::Result<T>,
    stop: impl Fn() -> Result<Duration, TryRecvError>,
) -> Vec<T> {
    let mut items = Vec::new();
    let mut last = Instant::now();
    let mut stopping: Option<(Instant, Duration)> = None;
    loop {
        match receive() {
            Ok(item) => {
                items.push(item);
                last = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stopping.is_some_and(|(since, quiet)| last.max(since).elapsed() >= quiet) {
                    return items;
                }
            }
            Err(error) => panic!("receive: {error}"),
        }
        match (stopping, stop()) {
            (None, Ok(quiet)) => stopping = Some((Instant::now(), quiet)),
            // the sender was dropped: stop at once, or the test has panicked
            (None, Err(TryRecvError::Disconnected)) => return items,
            (Some((since, quiet)), _) => {
                assert!(since.elapsed() < quiet + patient(LIMIT), "the traffic does not end");
            }
            (None, Err(TryRecvError::Empty)) => {}
        }
    }
}
