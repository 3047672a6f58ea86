//! Queries over accounts, and what is kept of their tokens.

use crawlwire_progress::store::Paging;
use crawlwire_progress::view::{AccountView, CredentialView, Page};
use crawlwire_progress::{AccountKey, CredentialKey, Timestamp};
use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Value,
};

use super::{before, one_more, page, statement};
use crate::entity::{account, credential};
use crate::error::Trouble;
use crate::seal::Seal;

#[derive(FromQueryResult)]
struct CountedAccount {
    #[sea_orm(nested)]
    account: account::Model,
    open_jobs: i64,
    held_jobs: i64,
}

const ACCOUNTS: &str = "SELECT accounts.*, CAST(coalesce((SELECT sum(open) FROM account_counts \
     WHERE account_counts.account_id = accounts.id), 0) AS bigint) AS open_jobs, \
     CAST(coalesce((SELECT sum(held) FROM account_counts WHERE account_counts.account_id = accounts.id), 0) AS bigint) \
     AS held_jobs FROM accounts";

async fn read(database: &DatabaseConnection, rest: &str, values: Vec<Value>) -> Result<Vec<AccountView>, Trouble> {
    let rows = CountedAccount::find_by_statement(statement(database, format!("{ACCOUNTS} {rest}"), values));
    let views = rows.all(database).await?.into_iter().map(|row| AccountView {
        key: AccountKey(row.account.id),
        account_id: row.account.name,
        created_at: Timestamp(row.account.created_at),
        open_jobs: row.open_jobs,
        held_jobs: row.held_jobs,
    });
    Ok(views.collect())
}

pub(crate) async fn accounts(database: &DatabaseConnection, paging: Paging) -> Result<Page<AccountView>, Trouble> {
    let values = vec![before(paging).into(), one_more(paging).into()];
    let views = read(database, "WHERE id < $1 ORDER BY id DESC LIMIT $2", values).await?;
    Ok(page(views, |view| view.key.0, paging))
}

pub(crate) async fn account(database: &DatabaseConnection, account_id: &str) -> Result<Option<AccountView>, Trouble> {
    let found = read(database, "WHERE name = $1", vec![account_id.into()]).await?;
    Ok(found.into_iter().next())
}

/// Each is unsealed to see whether there is a token; nothing of it is handed on.
pub(crate) async fn credentials(
    database: &DatabaseConnection,
    seal: &Seal,
    account: AccountKey,
    paging: Paging,
) -> Result<Page<CredentialView>, Trouble> {
    let rows = credential::Entity::find()
        .filter(credential::Column::AccountId.eq(account.0))
        .filter(credential::Column::Id.lt(before(paging)))
        .order_by_desc(credential::Column::Id)
        .limit(one_more(paging).unsigned_abs())
        .all(database)
        .await?;
    let views = rows.into_iter().map(|row| {
        let key = CredentialKey(row.id);
        let token = seal.unseal(key, row.version, &row.sealed_token);
        CredentialView {
            key,
            host: row.host,
            version: row.version,
            updated_at: Timestamp(row.updated_at),
            is_set: token.ok().map(|token| !token.is_empty()),
        }
    });
    Ok(page(views.collect(), |view| view.key.0, paging))
}
