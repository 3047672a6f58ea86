//! What every store has to do, run over memory, SQLite and PostgreSQL.

mod cases;
mod support;

use support::Kit;

/// Runs each case over each store, under the policy that the case asks for.
macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(super::Kit::memory(super::cases::policy(stringify!($case)))).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::cases::$case(super::Kit::sqlite(super::cases::policy(stringify!($case))).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                if let Some(kit) = super::Kit::postgres(super::cases::policy(stringify!($case))).await {
                    super::cases::$case(kit).await;
                }
            })+
        }
    };
}

suite!(
    a_whole_life,
    a_job_comes_back_as_it_was_given,
    refusals_have_no_effect,
    operations_on_one_job_fold_into_one_event,
    a_job_is_claimed_once,
    a_lease_that_ends_gives_the_job_back,
    renewals_keep_a_lease_and_a_lost_connection_shortens_it,
    attempts_end_at_their_deadline_and_retries_wait,
    assignments_that_never_start_are_taken_back,
    the_same_process_adopts_its_job_and_others_do_not,
    discoveries_are_unique_for_good,
    budgets_hold_discoveries_back,
    a_name_of_the_web_app_is_taken_once,
    a_full_queue_refuses_submissions_but_not_discoveries,
    an_older_report_never_replaces_a_newer,
    tokens_are_replaced_and_versioned,
    the_best_job_comes_first,
    lists_are_paged_and_filtered,
    histories_and_errors_are_paged,
    lists_are_searched,
    trees_are_listed_from_any_job_on,
    reports_are_read_together,
    errors_are_found_by_what_they_are,
    a_server_that_returns_grants_a_lease,
    a_return_gives_held_jobs_time,
    old_sessions_are_forgotten_whatever_became_of_their_connection,
    acts_do_what_they_say,
    a_wish_waits_for_its_crawler_and_is_forced_at_last,
    a_crawler_that_cannot_be_asked_loses_the_job_at_once,
    a_job_brings_its_own_numbers,
    an_account_holds_no_more_than_its_share,
    a_closed_gate_holds_jobs_back,
    behind_a_gate_deadlines_stand_still,
    behind_bad_credentials_a_failure_is_free_and_a_new_token_opens,
    a_tree_settles_over_three_levels_and_a_retry_reopens_it,
    a_tree_is_cancelled_as_a_whole,
    what_has_ended_is_deleted_with_everything_below,
    old_trees_and_errors_are_pruned,
    those_that_fit_are_redriven,
    a_repeated_submission_is_one,
    many_are_submitted_each_by_itself,
    an_act_on_many_leaves_out_what_does_not_allow_it,
    accounts_are_listed_with_their_jobs,
    a_token_is_given_and_forgotten_without_a_job,
    places_are_kept_once_and_seen_by_accounts,
    lanes_are_looked_at_in_turn,
    an_instance_comes_back_to_what_it_held,
    an_instance_belongs_to_one_principal,
    an_earlier_connection_has_no_say,
    what_is_said_twice_has_its_effect_once,
    what_was_refused_is_known_to_the_next_connection,
    a_job_that_is_given_back_costs_nothing,
    crawler_tokens_come_and_go,
    what_is_watched_is_told_to_other_servers_until_its_time_is_over,
    what_is_said_together_counts_as_said_one_after_the_other,
    more_watches_than_anybody_counts_are_as_good_as_all,
    the_feed_tells_once_what_happens_to_every_job,
    reports_about_jobs_of_other_servers_are_told_as_they_come,
    the_history_of_types_is_that_of_jobs_which_ended_well,
    weights_are_kept_with_jobs_and_in_the_sums_of_trees,
    jobs_are_read_together,
    the_oldest_of_those_that_wait_is_known,
);
