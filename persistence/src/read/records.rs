//! Queries over everything that stands beside jobs.

use std::collections::BTreeMap;

use crawlwire_progress::admit::ClosedGate;
use crawlwire_progress::store::{ErrorFilter, Paging, TOKENS_MAX};
use crawlwire_progress::view::{
    AreaView, AuditView, CrawlerToken, ErrorView, EventView, InstanceView, Page, SessionView,
};
use crawlwire_progress::{AccountKey, CredentialKey, Epoch, Fence, JobKey, SessionKey, Timestamp, TokenKey};
use crawlwire_protocol::AccessToken;
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::listing::Listing;
use super::{before, bound, fetch, moment, one_more, page, page_down_to, statement, unreadable};
use crate::connection::Cells;
use crate::entity::{area, audit, crawler_token, credential, error_report, job_checkpoint, job_event, session};
use crate::error::Trouble;
use crate::load::{gate, state};
use crate::seal::Seal;
use crate::sql;

pub(crate) async fn events(
    database: &DatabaseConnection,
    job: JobKey,
    paging: Paging,
) -> Result<Page<EventView>, Trouble> {
    let rows = job_event::Entity::find()
        .filter(job_event::Column::JobId.eq(job.0))
        .filter(job_event::Column::Id.gt(paging.after.unwrap_or(0)))
        .order_by_asc(job_event::Column::Id)
        .limit(one_more(paging).unsigned_abs())
        .all(database)
        .await?;
    let views = rows
        .into_iter()
        .map(|row| {
            Ok(EventView {
                id: row.id,
                at: Timestamp(row.at),
                arrows: row.arrows.split(',').map(str::to_owned).collect(),
                state: state(&row.status)?,
                fence: Fence(row.fence),
                attempt: row.attempt,
                session: row.session,
            })
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    Ok(page(views, |view| view.id, paging))
}

pub(crate) async fn checkpoint(database: &DatabaseConnection, job: JobKey) -> Result<Option<String>, Trouble> {
    let found = job_checkpoint::Entity::find_by_id(job.0).one(database).await?;
    Ok(found.map(|row| row.cursor))
}

pub(crate) async fn crawler_tokens(database: &DatabaseConnection) -> Result<Vec<CrawlerToken>, Trouble> {
    let rows = crawler_token::Entity::find()
        .order_by_desc(crawler_token::Column::Id)
        .limit(TOKENS_MAX as u64)
        .all(database)
        .await?;
    Ok(rows.into_iter().map(crawler_token_view).collect())
}

pub(crate) async fn crawler_token(
    database: &DatabaseConnection,
    key: TokenKey,
) -> Result<Option<CrawlerToken>, Trouble> {
    let found = crawler_token::Entity::find_by_id(key.0).one(database).await?;
    Ok(found.map(crawler_token_view))
}

fn crawler_token_view(row: crawler_token::Model) -> CrawlerToken {
    CrawlerToken {
        key: TokenKey(row.id),
        name: row.name,
        role: row.role,
        hash: row.hash,
        created_at: Timestamp(row.created_at),
        revoked_at: moment(row.revoked_at),
        last_used_at: moment(row.last_used_at),
    }
}

pub(crate) async fn token(
    database: &DatabaseConnection,
    seal: &Seal,
    key: CredentialKey,
) -> Result<Option<(AccessToken, i64)>, Trouble> {
    let Some(row) = credential::Entity::find_by_id(key.0).one(database).await? else {
        return Ok(None);
    };
    let token = seal.unseal(key, row.version, &row.sealed_token);
    let token = token.map_err(|error| Trouble::Refused(error.to_string()))?;
    Ok(Some((token, row.version)))
}

/// A session with the number of jobs that it holds.
#[derive(FromQueryResult)]
struct SessionWithJobs {
    #[sea_orm(nested)]
    session: session::Model,
    held: i64,
}

/// Sessions that are connected, or have a lease longer than until `$1`.
pub(super) const SESSIONS: &str = "SELECT sessions.*, (SELECT count(*) FROM jobs WHERE jobs.session_id = sessions.id) \
     AS held FROM sessions WHERE connected OR lease_expires_at > $1 ORDER BY id DESC LIMIT $2";

pub(crate) async fn sessions(
    database: &DatabaseConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<SessionView>, Trouble> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = SessionWithJobs::find_by_statement(statement(database, SESSIONS, [now.0.into(), limit.into()]))
        .all(database)
        .await?;
    let views = rows.into_iter().map(|SessionWithJobs { session: row, held }| {
        Ok(SessionView {
            key: SessionKey(row.id),
            name: row.name,
            identity: row.identity,
            server: row.server,
            connected: row.connected,
            opened_at: Timestamp(row.opened_at),
            lease_expires_at: Timestamp(row.lease_expires_at),
            capabilities: serde_json::from_str(&row.capabilities).map_err(|_| unreadable("sessions.capabilities"))?,
            held: usize::try_from(held).unwrap_or(0),
            epoch: Epoch(row.epoch),
            instance: instance(row.instance_id.zip(row.crawler_id).zip(row.principal), row.high_water),
        })
    });
    views.collect()
}

fn instance(of: Option<((String, String), String)>, high_water: i64) -> Option<InstanceView> {
    of.map(|((id, crawler_id), principal)| InstanceView {
        id,
        crawler_id,
        principal,
        high_water,
    })
}

pub(crate) async fn gates(database: &DatabaseConnection) -> Result<Vec<ClosedGate>, Trouble> {
    let rows = fetch(database, sql::LOAD_GATES, None).await?;
    let mut gates = rows.iter().map(gate).collect::<Result<Vec<_>, _>>()?;
    gates.sort_by(|one, other| one.gate.cmp(&other.gate));
    Ok(gates)
}

pub(crate) async fn held_by_account(
    database: &DatabaseConnection,
    accounts: Vec<AccountKey>,
) -> Result<BTreeMap<AccountKey, u64>, Trouble> {
    let rows = fetch(database, sql::LOAD_ACCOUNT_COUNTS, Some(json!({"accounts": accounts}))).await?;
    let mut counts = BTreeMap::new();
    for row in &rows {
        let mut cells = Cells::of(row);
        let account = AccountKey(cells.next()?);
        let (_open, held): (i64, i64) = (cells.next()?, cells.next()?);
        if let Ok(held @ 1..) = u64::try_from(held) {
            counts.insert(account, held);
        }
    }
    Ok(counts)
}

pub(crate) async fn audit(database: &DatabaseConnection, paging: Paging) -> Result<Page<AuditView>, Trouble> {
    let rows = audit::Entity::find()
        .filter(audit::Column::Id.lt(before(paging)))
        .order_by_desc(audit::Column::Id)
        .limit(one_more(paging).unsigned_abs())
        .all(database)
        .await?;
    let views = rows.into_iter().map(|row| AuditView {
        id: row.id,
        at: Timestamp(row.at),
        by: row.by,
        act: row.act,
        target: row.target,
        detail: row.detail,
    });
    Ok(page(views.collect(), |view| view.id, paging))
}

/// A place, and since when an account may see it.
#[derive(FromQueryResult)]
struct SeenArea {
    #[sea_orm(nested)]
    area: area::Model,
    since: i64,
}

/// The places of the account `$1`, newest first. All joins are outer ones, so that SQLite begins with the account.
const AREAS: &str = "SELECT areas.*, seen.since FROM account_areas AS seen LEFT JOIN areas ON areas.id = seen.area_id \
     WHERE seen.account_id = (SELECT id FROM accounts WHERE name = $1) AND seen.area_id < $2 \
     ORDER BY seen.area_id DESC LIMIT $3";

pub(crate) async fn areas(
    database: &DatabaseConnection,
    account_id: &str,
    paging: Paging,
) -> Result<Page<AreaView>, Trouble> {
    let values = [account_id.into(), before(paging).into(), one_more(paging).into()];
    let rows = SeenArea::find_by_statement(statement(database, AREAS, values))
        .all(database)
        .await?;
    let views = rows.into_iter().map(|SeenArea { area: row, since }| AreaView {
        id: row.id,
        host: row.host,
        kind: row.kind,
        entity_id: row.entity_id,
        path: row.path,
        name: row.name,
        since: Timestamp(since),
    });
    Ok(page(views.collect(), |view| view.id, paging))
}

pub(crate) async fn errors(
    database: &DatabaseConnection,
    filter: ErrorFilter,
    paging: Paging,
) -> Result<Page<ErrorView>, Trouble> {
    let backend = database.get_database_backend();
    let listing = Listing::of_errors(&filter);
    let bound = bound(database, &listing, paging).await?;
    let (chosen, values) = listing.page(backend, before(paging), bound, one_more(paging));
    let rows = error_report::Model::find_by_statement(statement(database, format!("{ERRORS} {chosen}"), values))
        .all(database)
        .await?;
    let views = rows.into_iter().map(|row| ErrorView {
        id: row.id,
        at: Timestamp(row.at),
        category: row.category,
        severity: row.severity,
        code: row.code,
        job: row.job,
        connection: row.connection,
        message: row.message,
    });
    Ok(page_down_to(views.collect(), |view| view.id, paging, bound))
}

pub(super) const ERRORS: &str = "SELECT errors.* FROM errors";
