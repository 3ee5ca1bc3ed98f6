//! Databases, one row each: what they are called, what they speak, and the program people reach them with.
//!
//! Nothing else in the project knows a database's name. What differs between databases beyond these rows is what they
//! speak ([`Wire`]), and few of them speak anything that is read.

use crate::access::upstream::Wire;

/// One database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its name in the API.
    pub name: &'static str,
    /// What it speaks.
    pub wire: Wire,
    /// Its usual port.
    pub port: u16,
    /// The program that people reach it with; nothing when there is no usual one.
    pub program: &'static str,
    /// The program's arguments for the address: `{host}` and `{port}`.
    pub address: &'static [&'static str],
    /// Its arguments for the account: `{user}`; nothing when it takes none.
    pub account: &'static [&'static str],
}

/// The databases that are known by name. Anything else is [`ANY`].
pub const DATABASES: &[Database] = &[
    Database {
        name: "Postgres",
        wire: Wire::Postgres,
        port: 5432,
        program: "psql",
        address: &["-h", "{host}", "-p", "{port}"],
        account: &["-U", "{user}"],
    },
    Database {
        name: "CockroachDB",
        wire: Wire::Postgres,
        port: 26257,
        program: "psql",
        address: &["-h", "{host}", "-p", "{port}"],
        account: &["-U", "{user}"],
    },
    Database {
        name: "MySQL",
        wire: Wire::Mysql,
        port: 3306,
        program: "mysql",
        address: &["-h", "{host}", "-P", "{port}"],
        account: &["-u", "{user}"],
    },
    Database {
        name: "MariaDB",
        wire: Wire::Mysql,
        port: 3306,
        program: "mariadb",
        address: &["-h", "{host}", "-P", "{port}"],
        account: &["-u", "{user}"],
    },
    Database {
        name: "MongoDB",
        wire: Wire::Plain,
        port: 27017,
        program: "mongosh",
        address: &["--host", "{host}", "--port", "{port}"],
        account: &["--username", "{user}"],
    },
    Database {
        name: "MicrosoftSQLServer",
        wire: Wire::Plain,
        port: 1433,
        program: "sqlcmd",
        address: &["-S", "{host},{port}"],
        account: &["-U", "{user}"],
    },
    Database {
        name: "Redis",
        wire: Wire::Plain,
        port: 6379,
        program: "redis-cli",
        address: &["-h", "{host}", "-p", "{port}"],
        account: &["--user", "{user}"],
    },
];

/// A service that nothing is known of but its port.
pub const ANY: Database =
    Database { name: "", wire: Wire::Plain, port: 0, program: "", address: &["{host}", "{port}"], account: &[] };

impl Database {
    /// The row of this name, in any case of letters; [`ANY`] for the empty one.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let row = DATABASES.iter().find(|row| row.name.eq_ignore_ascii_case(name));
        if name.is_empty() { Some(&ANY) } else { row }
    }

    /// The program and its arguments for one address and account; nothing where there is no usual program.
    #[must_use]
    pub fn command(&self, (host, port): (&str, u16), user: Option<&str>) -> Vec<String> {
        if self.program.is_empty() {
            return Vec::new();
        }
        let port = port.to_string();
        let account = user.map_or(&[] as &[&str], |_| self.account);
        let filled = |part: &&str| {
            part.replace("{host}", host).replace("{port}", &port).replace("{user}", user.unwrap_or_default())
        };
        let words = self.address.iter().chain(account).map(filled);
        std::iter::once(self.program.to_owned()).chain(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name_and_say_what_to_type() {
        for (i, row) in DATABASES.iter().enumerate() {
            assert!(DATABASES.iter().skip(i + 1).all(|other| !other.name.eq_ignore_ascii_case(row.name)));
            assert_eq!(Database::named(&row.name.to_uppercase()), Some(row));
        }
        assert_eq!(Database::named(""), Some(&ANY));
        assert_eq!(Database::named("Oracle"), None);
        let line = |name, user| Database::named(name).unwrap().command(("127.0.0.1", 15432), user).join(" ");
        assert_eq!(line("postgres", Some("alice")), "psql -h 127.0.0.1 -p 15432 -U alice");
        assert_eq!(line("MySQL", None), "mysql -h 127.0.0.1 -P 15432");
        assert_eq!(line("MicrosoftSQLServer", None), "sqlcmd -S 127.0.0.1,15432");
        assert_eq!(line("", Some("alice")), "");
    }
}
