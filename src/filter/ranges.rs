//! Sets of 16-bit numbers as ranges: union, difference, and the segments of 32 of them at once.

use std::ops::RangeInclusive;

/// Disjoint ranges in ascending order, each with the mask of the rules that accept its numbers.
pub type Segments = Vec<(RangeInclusive<u16>, u32)>;

/// A set of numbers. The ranges may overlap and come in any order.
pub type Ranges = Vec<RangeInclusive<u16>>;

/// The numbers in `only` that are not in `not`, as disjoint ranges in ascending order.
pub fn difference(mut only: Ranges, mut not: Ranges) -> Ranges {
    only.sort_unstable_by_key(|range| *range.start());
    not.sort_unstable_by_key(|range| *range.start());
    let mut holes = not.into_iter().peekable();
    let mut rest = Ranges::new();
    // the first number not yet decided; at the end this is 65536, hence 32 bits
    let mut next = 0_u32;
    for range in only {
        next = next.max(u32::from(*range.start()));
        let end = u32::from(*range.end());
        while next <= end {
            // skip holes that end before it
            while holes.next_if(|hole| u32::from(*hole.end()) < next).is_some() {}
            let (hole_start, hole_end) = holes.peek().map_or((u32::MAX, u32::MAX), |hole| {
                ((*hole.start()).into(), (*hole.end()).into())
            });
            if hole_start > next {
                let last = end.min(hole_start.saturating_sub(1));
                // both are at most `end`
                rest.push(next as u16..=last as u16);
                next = last + 1;
            } else {
                next = hole_end + 1;
            }
        }
    }
    rest
}

/// Merges the ranges of several rules into segments, by a sweep over the ends of the ranges.
pub fn segments(named: impl Iterator<Item = (RangeInclusive<u16>, usize)>) -> Segments {
    // (position, rule, +1 where a range of the rule begins and -1 behind its end)
    let mut edges: Vec<(u32, usize, i32)> = named
        .filter(|(range, _)| !range.is_empty())
        .flat_map(|(range, bit)| {
            [(u32::from(*range.start()), bit, 1), (u32::from(*range.end()) + 1, bit, -1)]
        })
        .collect();
    edges.sort_unstable_by_key(|&(at, ..)| at);

    let mut open = [0_i32; u32::BITS as usize];
    let mut mask = 0_u32;
    let mut start = 0_u32;
    let mut segments = Vec::new();
    for edges in edges.chunk_by(|a, b| a.0 == b.0) {
        let mut next_mask = mask;
        for &(_, bit, step) in edges {
            open[bit] += step;
            next_mask = next_mask & !(1 << bit) | u32::from(open[bit] > 0) << bit;
        }
        if next_mask != mask {
            let end = edges[0].0;
            if mask != 0 {
                // ends are exclusive, 65536 at most
                segments.push((start as u16..=(end - 1) as u16, mask));
            }
            (start, mask) = (end, next_mask);
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_what_is_left() {
        let cases: [[&[RangeInclusive<u16>]; 3]; 9] = [
            [&[], &[1..=2], &[]],
            [&[1..=5], &[], &[1..=5]],
            [&[1..=5, 3..=9], &[4..=4], &[1..=3, 5..=5, 6..=9]],
            [&[1..=5], &[0..=9], &[]],
            [&[1..=5], &[0..=1, 5..=7], &[2..=4]],
            [&[0..=65535], &[0..=0, 65535..=65535], &[1..=65534]],
            [&[0..=65535], &[100..=200, 150..=160, 50..=170], &[0..=49, 201..=65535]],
            [&[10..=20, 0..=5, 30..=40], &[4..=32], &[0..=3, 33..=40]],
            [&[5..=6], &[1..=3, 2..=9, 2..=2], &[]],
        ];
        for [only, not, rest] in cases {
            assert_eq!(difference(only.to_vec(), not.to_vec()), rest, "{only:?} less {not:?}");
        }
    }

    #[test]
    fn overlapping_ranges_become_disjoint_segments() {
        let sets: [&[RangeInclusive<u16>]; 2] =
            [&[10..=20, 15..=30, 31..=40, 15..=18], &[0..=0, 20..=25, 65535..=65535]];
        let named = sets
            .iter()
            .enumerate()
            .flat_map(|(bit, set)| set.iter().map(move |range| (range.clone(), bit)));
        assert_eq!(
            segments(named),
            [(0..=0, 2), (10..=19, 1), (20..=25, 3), (26..=40, 1), (65535..=65535, 2)]
        );
        assert_eq!(segments([(0..=65535, 31)].into_iter()), [(0..=65535, 1 << 31)]);
    }
}
