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
    a_server_that_returns_grants_a_lease,
    a_return_gives_held_jobs_time,
    old_sessions_are_forgotten_but_not_while_they_hold_a_job,
);
