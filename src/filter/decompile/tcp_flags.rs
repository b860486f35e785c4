//! Sets of TCP flags, from the bytes that have one.

use crate::filter::ranges::Ranges;
use crate::filter::rule::{Field, TcpFlags};

const FIN: TcpFlags = TcpFlags(1);

/// The least sets: what has all of one of them was named, but for what has all of an excluded one.
pub fn tcp_flags(accepted: Ranges) -> Field<TcpFlags> {
    let mut is_accepted = [false; 256];
    for value in accepted.into_iter().flatten() {
        is_accepted[usize::from(value)] = true;
    }
    let is_accepted = |value: u8| is_accepted[usize::from(value)];
    let has_one = |value: u8, sets: &[u8]| sets.iter().any(|set| value & set == *set);
    // the smaller ones first
    let mut sets: Vec<u8> = (0..=u8::MAX).collect();
    sets.sort_by_key(|set| (set.count_ones(), *set));

    let (mut only, mut not) = (Vec::new(), Vec::new());
    for &set in sets.iter().filter(|set| is_accepted(**set)) {
        if !has_one(set, &only) {
            only.push(set);
        }
    }
    let holes = sets.iter().filter(|value| !is_accepted(**value) && has_one(**value, &only));
    for &value in holes {
        if !has_one(value, &not) {
            let excludes_accepted =
                |set: u8| (0..=u8::MAX).any(|value| value & set == set && is_accepted(value));
            let mut subsets = sets.iter().filter(|set| value & **set == **set);
            // at the latest, the value itself
            not.extend(subsets.find(|set| !excludes_accepted(**set)));
        }
    }
    if only.is_empty() {
        return Field { only: vec![FIN], not: vec![FIN] };
    }
    if only == [0] && !not.is_empty() {
        only.clear();
    }
    let flags = |sets: Vec<u8>| sets.into_iter().map(TcpFlags).collect();
    Field { only: flags(only), not: flags(not) }
}
