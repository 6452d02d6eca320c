//! The user that Postgres runs as. It refuses root, so root gives it an account with fewer rights
//! and the data directory along with it.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::{OnPath, ServerError};

/// As whom a program is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// As this process.
    Own,
    /// As another user of the system.
    User(User),
    /// In a user namespace, where root does not look like root.
    Namespace,
}

/// A line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// Finds an account under which `program` can run. An existing directory `data` decides by its
    /// owner, so that data once made stay usable.
    ///
    /// # Errors
    /// This process is root and there is no way to be somebody else.
    pub fn choose(program: &Path, data: &Path) -> Result<Self, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account::Own);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut candidates = Vec::new();
        match std::fs::metadata(data) {
            Ok(found) if found.uid() != 0 => {
                let (uid, gid) = (found.uid(), found.gid());
                candidates.push(Account::User(User { name: format!("user {uid}"), uid, gid }));
            }
            Ok(_) => candidates.push(Account::Namespace),
            Err(_) => {
                let users = ["postgres", "nobody"].map(|name| find_user(&users, name));
                candidates.extend(users.into_iter().flatten().map(Account::User));
                candidates.push(Account::Namespace);
            }
        }
        candidates.into_iter().find(|account| account.can_run(program, Path::new("/"))).ok_or_else(
            || ServerError::Program {
                program: "postgres",
                action: "run as another user than root, which it refuses",
                detail: "neither the users 'postgres' and 'nobody' nor `unshare -U` can be used \
                    here; run this as an ordinary user"
                    .to_owned(),
            },
        )
    }

    /// A command that runs `program` under this account.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Account::Own => Command::new(program),
            Account::User(user) => {
                let mut command = Command::new(program);
                // The other groups of root are dropped along with its id.
                command.uid(user.uid).gid(user.gid);
                command
            }
            Account::Namespace => {
                let mut command = Command::new("unshare");
                command.arg("-U").arg(program);
                command
            }
        }
    }

    /// Whether this account can run `program` in `directory`.
    pub fn can_run(&self, program: &Path, directory: &Path) -> bool {
        let mut command = self.command(program);
        command.arg("--version").current_dir(directory).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Gives a file or directory to this account.
    pub fn take(&self, path: &Path) -> Result<(), ServerError> {
        match self {
            Account::User(user) => {
                chown(path, Some(user.uid), Some(user.gid)).on_path("change the owner of", path)
            }
            Account::Own | Account::Namespace => Ok(()),
        }
    }
}

fn find_user(users: &str, name: &str) -> Option<User> {
    let fields: Vec<&str> = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    let uid = fields.get(2)?.parse().ok()?;
    let gid = fields.get(3)?.parse().ok()?;
    (uid != 0).then(|| User { name: name.to_owned(), uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_root_is_none() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# note\npostgres:x:101:104::/var:/bin/sh\n";
        let postgres = User { name: "postgres".to_owned(), uid: 101, gid: 104 };
        assert_eq!(find_user(users, "postgres"), Some(postgres));
        assert_eq!(find_user(users, "root"), None);
        assert_eq!(find_user(users, "nobody"), None);
    }
}
