//! Which files a compaction takes: facts in, decision out.

use std::collections::BTreeMap;

use crate::archive::layout::{Hour, Origin, Table, data_name};
use crate::store::Entry;

/// A file that may be merged or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    pub path: String,
    pub size_bytes: u64,
    pub table: Table,
    pub hour: Hour,
    /// `None` for a merged file.
    pub partition: Option<u32>,
}

/// The file as an input, if it is this topic's and below its partition's checkpoint.
pub(super) fn settled(entry: &Entry, table: Table, topic: &str, ends: &BTreeMap<u32, i64>) -> Option<Input> {
    let name = data_name(entry.name()).filter(|name| name.topic == topic)?;
    let partition = match name.origin {
        Origin::Partition { partition, first } => {
            ends.get(&partition).filter(|end| first < **end)?;
            Some(partition)
        }
        Origin::Compaction { .. } => None,
    };
    let hour = Hour::of_path(&entry.path)?;
    Some(Input { path: entry.path.clone(), size_bytes: entry.size_bytes, table, hour, partition })
}

/// Groups of files to be merged, each of one table and hour that ended by `closed_by_ms`, of at most about `file_bytes`.
/// A file more than half as large stays as it is; an hour with fewer than `min_files` others too.
pub(super) fn merges(files: &[Input], closed_by_ms: i64, min_files: usize, file_bytes: u64) -> Vec<Vec<Input>> {
    let mut hours: BTreeMap<(Table, Hour), Vec<&Input>> = BTreeMap::new();
    for input in files.iter().filter(|input| input.hour.end_ms() <= closed_by_ms && input.size_bytes <= file_bytes / 2)
    {
        hours.entry((input.table, input.hour)).or_default().push(input);
    }
    let mut groups = Vec::new();
    for inputs in hours.into_values().filter(|inputs| inputs.len() >= min_files.max(2)) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for input in inputs {
            if bytes + input.size_bytes > file_bytes {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += input.size_bytes;
            group.push(input.clone());
        }
        groups.push(group);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Dataset;

    const TABLE: Table = Table::Accepted(Dataset::Events);
    const HOUR_MS: i64 = 3_600_000;

    fn entry(hour: i64, name: &str) -> Entry {
        let dir = format!("{}/{}", TABLE.dir(), Hour::of_ms(hour * HOUR_MS).dir());
        Entry { path: format!("{dir}/{name}.parquet"), size_bytes: 10, is_dir: false }
    }

    fn input(hour: i64, size_bytes: u64, path: &str) -> Input {
        let hour = Hour::of_ms(hour * HOUR_MS);
        Input { path: path.to_owned(), size_bytes, table: TABLE, hour, partition: Some(0) }
    }

    fn names(groups: &[Vec<Input>]) -> Vec<Vec<&str>> {
        groups.iter().map(|group| group.iter().map(|input| input.path.as_str()).collect()).collect()
    }

    #[test]
    fn only_what_is_summed_up_may_be_touched() {
        let ends = BTreeMap::from([(0, 100), (1, 50)]);
        let allowed = |name: &str| settled(&entry(1, name), TABLE, "traffic-events", &ends);
        assert!(allowed(&format!("traffic-events-0-{:020}-ab", 99)).is_some());
        assert!(allowed(&format!("traffic-events-compacted-{:020}-ab", 99)).is_some());
        assert_eq!(allowed(&format!("traffic-events-0-{:020}-ab", 100)), None);
        assert_eq!(allowed(&format!("traffic-events-1-{:020}-ab", 99)), None);
        assert_eq!(allowed(&format!("traffic-events-2-{:020}-ab", 0)), None);
        assert_eq!(allowed(&format!("traffic-events-old-0-{:020}-ab", 0)), None);
        assert_eq!(allowed("part-0"), None);
    }

    #[test]
    fn closed_hours_are_merged_into_files_of_the_size_wanted() {
        let files = [
            input(1, 10, "a"),
            input(1, 10, "b"),
            input(2, 10, "alone"),
            input(3, 40, "c"),
            input(3, 40, "d"),
            input(3, 51, "large"),
            input(3, 40, "e"),
            input(3, 40, "f"),
            input(3, 40, "left"),
            input(4, 10, "open"),
            input(4, 10, "open too"),
        ];
        let groups = merges(&files, 4 * HOUR_MS, 2, 100);
        assert_eq!(names(&groups), [vec!["a", "b"], vec!["c", "d"], vec!["e", "f"]]);
        assert_eq!(names(&merges(&files, 4 * HOUR_MS, 3, 100)), [vec!["c", "d"], vec!["e", "f"]]);
    }
}
