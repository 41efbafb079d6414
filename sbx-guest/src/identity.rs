//! Whom a command runs as.

use sbx_proto::User;

use crate::accounts::{Account, Accounts, parse_id};

/// A user, resolved to what the kernel and the environment need.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// Login name, if the user has one: a bare uid that the image does not know has none.
    pub name: Option<Vec<u8>>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory, `/` if unknown.
    pub home: Vec<u8>,
    /// Login shell that the image names for the user.
    pub shell: Option<Vec<u8>>,
}

/// Why a user could not be resolved.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// No line in `/etc/passwd`, and not a number.
    #[error("the image has no user \"{name}\"; name one of its /etc/passwd, or a numeric uid")]
    NoUser {
        /// What was asked for.
        name: String,
    },
    /// No line in `/etc/group`, and not a number.
    #[error("the image has no group \"{name}\"; name one of its /etc/group, or a numeric gid")]
    NoGroup {
        /// What was asked for.
        name: String,
    },
}

impl Identity {
    /// Resolves `NAME|UID[:GROUP|:GID]`, or `default` if nothing was asked for.
    ///
    /// As `docker exec --user` does it: a name wins over a number that looks the same, a uid without an account
    /// gets group 0 and home `/`, and naming a group means that group only, without supplementary ones.
    pub(crate) fn resolve(
        spec: Option<&str>,
        default: &User,
        accounts: &Accounts,
    ) -> Result<Self, IdentityError> {
        let Some(spec) = spec else { return Ok(Self::of_default(default, accounts)) };
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (spec, None),
        };
        let mut identity = if user == default.name {
            Self::of_default(default, accounts)
        } else if let Some(account) = accounts.named(user.as_bytes()) {
            Self::of_account(account, accounts)
        } else if user == "root" {
            // Also in an image without any accounts.
            Self {
                name: Some(b"root".to_vec()),
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: b"/root".to_vec(),
                shell: None,
            }
        } else if let Some(uid) = parse_id(user.as_bytes()) {
            match accounts.with_uid(uid) {
                _ if uid == default.uid => Self::of_default(default, accounts),
                Some(account) => Self::of_account(account, accounts),
                None => Self { name: None, uid, gid: 0, groups: vec![0], home: b"/".to_vec(), shell: None },
            }
        } else {
            return Err(IdentityError::NoUser { name: user.to_owned() });
        };
        if let Some(group) = group {
            let named = accounts.group_named(group.as_bytes()).map(|group| group.gid);
            let gid = named.or_else(|| parse_id(group.as_bytes()));
            identity.gid = gid.ok_or_else(|| IdentityError::NoGroup { name: group.to_owned() })?;
            identity.groups = vec![identity.gid];
        }
        Ok(identity)
    }

    fn of_account(account: &Account, accounts: &Accounts) -> Self {
        Self {
            name: Some(account.name.clone()),
            uid: account.uid,
            gid: account.gid,
            groups: accounts.groups_of(&account.name, account.gid),
            home: if account.home.is_empty() { b"/".to_vec() } else { account.home.clone() },
            shell: Some(account.shell.clone()).filter(|shell| !shell.is_empty()),
        }
    }

    /// The user that the host asked for at boot. Its ids hold even if something changed `/etc/passwd` since.
    fn of_default(user: &User, accounts: &Accounts) -> Self {
        let name = user.name.as_bytes();
        let account = accounts.named(name);
        Self {
            name: Some(name.to_vec()),
            uid: user.uid,
            gid: user.gid,
            groups: accounts.groups_of(name, user.gid),
            home: user.home.clone(),
            shell: account.map(|account| account.shell.clone()).filter(|shell| !shell.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(spec: Option<&str>) -> Result<Identity, IdentityError> {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/root:/bin/bash\nagent:*:1000:1000::/home/agent:/bin/sh\nwww:x:33:33::/var/www:\n",
            b"root:x:0:\nagent:x:1000:\nwww:x:33:\nadm:x:4:agent,www\n",
        );
        let user = User { name: "agent".to_owned(), uid: 1000, gid: 1000, home: b"/home/agent".to_vec() };
        Identity::resolve(spec, &user, &accounts)
    }

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let identity = resolve(Some(spec)).unwrap();
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn nothing_asked_for_means_the_agent() {
        let identity = resolve(None).unwrap();
        assert_eq!((identity.uid, identity.gid, identity.groups), (1000, 1000, vec![1000, 4]));
        assert_eq!(identity.shell.as_deref(), Some(b"/bin/sh".as_slice()));
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids("root"), (0, 0, vec![0]));
        assert_eq!(ids("33"), (33, 33, vec![33, 4]));
        assert_eq!(ids("www:adm"), (33, 4, vec![4]));
        assert_eq!(ids("www:77"), (33, 77, vec![77]));
        assert_eq!(ids("1000"), (1000, 1000, vec![1000, 4]));
        assert_eq!(resolve(Some("www")).unwrap().shell, None);
    }

    #[test]
    fn a_uid_without_an_account() {
        let identity = resolve(Some("4321")).unwrap();
        assert_eq!((identity.name, identity.uid, identity.gid), (None, 4321, 0));
        assert_eq!(identity.home, b"/");
    }

    #[test]
    fn an_image_without_accounts_has_a_root() {
        let user = User { name: "agent".to_owned(), uid: 1000, gid: 1000, home: b"/home/agent".to_vec() };
        let identity = Identity::resolve(Some("root"), &user, &Accounts::default()).unwrap();
        assert_eq!((identity.uid, identity.gid, identity.groups), (0, 0, vec![0]));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        assert_eq!(resolve(Some("nobdy")).unwrap_err(), IdentityError::NoUser { name: "nobdy".to_owned() });
        assert_eq!(resolve(Some("")).unwrap_err(), IdentityError::NoUser { name: String::new() });
        assert_eq!(resolve(Some("root:x")).unwrap_err(), IdentityError::NoGroup { name: "x".to_owned() });
        assert_eq!(
            resolve(Some("4294967295")).unwrap_err(),
            IdentityError::NoUser { name: "4294967295".to_owned() }
        );
    }
}
