//! What a server says of itself, and what of it a DBA has to change.

use sqlx::mysql::MySqlRow;

use super::sql::Sql;
use super::{PERFORMANCE_SCHEMA_OFF, number, words};
use crate::issuers::Rehearsal;

/// The oldest MariaDB with all that the procedures use.
const OLDEST: (u32, u32) = (10, 5);
const NEWEST_TESTED: (u32, u32) = (10, 11);

/// Times a server gives sessions, in seconds, shorter than this are told: no lease's scope says them.
const SHORT_SECONDS: i64 = 3600;

/// Asks for what stands below, for the broker's grants, and for what is prepared.
pub(super) fn facts() -> Sql {
    Sql::new(
        "SELECT VERSION() AS version, CONCAT(@@global.read_only) NOT IN ('0', 'OFF') AS read_only, \
         (SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = 'ed25519' AND plugin_status = 'ACTIVE') AS ed25519, \
         (SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE') \
         * @@global.strict_password_validation AS judges_passwords, \
         CAST(@@global.performance_schema AS SIGNED) AS shows_threads, \
         @@global.max_password_errors < 1000000 AS bars_accounts, \
         @@global.max_connect_errors < 1000000 AND NOT @@global.skip_name_resolve AS bars_hosts, CAST(@@global.wait_timeout AS SIGNED) AS wait_timeout, \
         CAST(@@global.idle_transaction_timeout AS SIGNED) AS idle_transaction_timeout, \
         CAST(@@global.idle_readonly_transaction_timeout AS SIGNED) AS idle_readonly_transaction_timeout, \
         CAST(@@global.idle_write_transaction_timeout AS SIGNED) AS idle_write_transaction_timeout; \
         SELECT engine AS other_xa FROM information_schema.engines WHERE xa = 'YES' AND engine <> 'InnoDB'; \
         SHOW GRANTS; XA RECOVER FORMAT = 'SQL'",
    )
}

/// `10.11` of `10.11.19-MariaDB`.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether the procedures work there, and were tested.
pub(super) fn look_at_version(version: &str, found: &mut Rehearsal) {
    found.target = format!("MariaDB {}", version.split('-').next().unwrap_or(version));
    if !version.contains("MariaDB") {
        found.target = format!("MySQL {version}");
        let text = "this is MySQL, whose procedures and accounts differ; use MariaDB (docs/targets/mariadb.md says what is missing)";
        found.problems.push(text.into());
    } else if numbers(version) < OLDEST {
        found.problems.push(format!(
            "MariaDB {version} is too old: use {}.{} or newer",
            OLDEST.0, OLDEST.1
        ));
    } else if numbers(version) != NEWEST_TESTED {
        found.warnings.push(format!(
            "MariaDB {version} was not tested; {}.{} was",
            NEWEST_TESTED.0, NEWEST_TESTED.1
        ));
    }
}

/// What cuts work short and stands in no scope, what an end cannot see, and what keeps the broker out.
pub(super) fn look_at_limits(rows: &[MySqlRow], found: &mut Rehearsal) {
    for limit in [
        "wait_timeout",
        "idle_transaction_timeout",
        "idle_readonly_transaction_timeout",
        "idle_write_transaction_timeout",
    ] {
        let seconds = number(rows, limit).filter(|seconds| (1..SHORT_SECONDS).contains(seconds));
        if let Some(seconds) = seconds {
            found.warnings.push(format!(
                "the server closes sessions of leases after {seconds} idle seconds ({limit}); no scope says so"
            ));
        }
    }
    if number(rows, "shows_threads") != Some(1) {
        found.problems.push(PERFORMANCE_SCHEMA_OFF.into());
    }
    if number(rows, "bars_accounts") != Some(0) {
        let text = "max_password_errors lets whoever reaches the server keep the broker out with wrong passwords, and then nothing ends: SET GLOBAL max_password_errors = 4294967295";
        found.problems.push(text.into());
    }
    if number(rows, "bars_hosts") != Some(0) {
        let text = "max_connect_errors lets whoever shares the broker's address keep it out with connections that are broken off: SET GLOBAL max_connect_errors = 4294967295, or start the server with skip_name_resolve";
        found.warnings.push(text.into());
    }
    for engine in words(rows, "other_xa") {
        found.warnings.push(format!(
            "engine {engine} takes part in XA transactions, and what a lease leaves prepared in it alone is not found"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_version() {
        for (version, problems, warnings) in [
            ("10.11.19-MariaDB-0+deb12u1", 0, 0),
            ("11.4.2-MariaDB", 0, 1),
            ("10.4.1-MariaDB", 1, 0),
            ("8.4.0", 1, 0),
        ] {
            let mut found = Rehearsal::default();
            look_at_version(version, &mut found);
            assert_eq!(found.problems.len(), problems, "{version}");
            assert_eq!(found.warnings.len(), warnings, "{version}");
        }
    }
}
