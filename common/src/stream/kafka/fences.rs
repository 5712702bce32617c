//! How often members of this process were fenced by their own name.
//!
//! A broker that comes back may let a member in anew and fence what it still has under way: once proves nothing. Two
//! processes of one name fence each other again and again, until one of them gives up.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::deadline::monotonic;

/// Two fences further apart have nothing to do with each other.
const APART: Duration = Duration::from_secs(60);

/// Notes a fence; whether the member was fenced before, not long ago.
pub(super) fn again(member: &str) -> bool {
    static LAST: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    let now = monotonic();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.insert(member.to_owned(), now).is_some_and(|before| now.duration_since(before) < APART)
}
