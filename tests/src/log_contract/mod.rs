//! What every log must do, whoever implements it.
//!
//! A case is a function of a [`Scene`]: a log, and names of its own for topics and groups, so that one
//! broker serves all cases at once. Cases wait for what must happen until a deadline and never for a time;
//! where an implementation may rightly differ, its [`Subject`] says so.
//!
//! A log is put under contract with one line, `tests::log_contract!(name)`, where `name` is a function that
//! returns its [`Subject`], or `None` to skip it.

pub mod groups;
pub mod members;
pub mod records;
pub mod scene;
pub mod topics;
pub mod transactions;

pub use scene::{Scene, SecondSession, Subject};

/// Makes a module of tests, one for each case, on the log that the function of that name returns.
#[macro_export]
macro_rules! log_contract {
    ($log:ident) => {
        mod $log {
            $crate::log_contract! { $log,
                records: keep_their_order_and_content,
                records: tell_null_from_empty,
                records: are_stamped_with_the_time_of_producing,
                records: with_a_key_go_where_java_puts_them,
                records: without_key_or_partition_arrive_somewhere,
                records: watermark_markers_come_back_as_such,
                records: of_a_megabyte_pass,
                records: a_hundred_thousand_pass_in_order,
                records: are_visible_once_flushed,
                records: a_reader_meets_the_end_and_goes_on_later,
                records: a_reader_begins_where_it_is_told,
                topics: are_created_once_and_verified,
                topics: that_differ_are_refused,
                topics: that_do_not_exist_are_told_apart,
                topics: a_compacted_one_folds_to_the_last_value_of_each_key,
                transactions: commit_outputs_state_and_offsets_together,
                transactions: state_is_never_behind_the_committed_offset,
                transactions: show_nothing_while_open,
                transactions: an_aborted_one_shows_nothing_and_readers_pass_it,
                transactions: empty_ones_do_no_harm,
                transactions: of_a_dropped_member_are_gone,
                transactions: of_a_predecessor_cannot_be_committed_late,
                transactions: without_inputs,
                groups: without_offsets_have_none,
                groups: are_independent,
                groups: resume_where_they_committed,
                groups: without_transactions_commit_offsets_only,
                members: are_assigned_the_same_partitions_of_all_inputs,
                members: read_nothing_before_they_start,
                members: start_at_the_offsets_given,
                members: meet_the_end_again_after_new_records,
                members: hear_the_end_confirmed_while_it_stands,
                members: a_loop_to_the_end_terminates_with_all_done,
                members: read_nothing_of_a_paused_partition,
                members: see_their_own_writes_to_their_input,
            }
        }
    };
    ($log:ident, $($group:ident: $case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if let Some(subject) = super::$log() {
                    $crate::log_contract::$group::$case(&$crate::log_contract::Scene::new(subject, stringify!($case)));
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    /// A case that nobody runs proves nothing.
    #[test]
    fn every_case_is_listed() {
        let listed = include_str!("mod.rs");
        let groups = [
            ("groups", include_str!("groups.rs")),
            ("members", include_str!("members.rs")),
            ("records", include_str!("records.rs")),
            ("topics", include_str!("topics.rs")),
            ("transactions", include_str!("transactions.rs")),
        ];
        for (group, source) in groups {
            let cases: Vec<_> = source.lines().filter_map(|line| line.strip_prefix("pub fn ")).collect();
            assert!(!cases.is_empty(), "{group} has no cases");
            for case in cases {
                let name = case.split('(').next().expect("a name");
                assert!(listed.contains(&format!("{group}: {name},")), "{group}::{name} is not listed");
            }
        }
    }
}
