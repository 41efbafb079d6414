//! The users and groups of the image: `/etc/passwd` and `/etc/group`, read and added to.
//!
//! ```text
//! passwd   name:password:uid:gid:comment:home:shell      (passwd(5))
//! group    name:password:gid:member,member,…             (group(5))
//! ```
//!
//! The files are the image's, so anything may be in them: lines that are not understood are skipped, and kept when
//! the file is written.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes of either file that are looked at. Real ones have a few KiB.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// One user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Account {
    /// Login name.
    pub name: Vec<u8>,
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: Vec<u8>,
    /// Login shell; may be empty.
    pub shell: Vec<u8>,
}

/// One group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Group {
    /// Name.
    pub name: Vec<u8>,
    /// Group id.
    pub gid: u32,
    /// Names of the users who are in it besides those whose primary group it is.
    pub members: Vec<Vec<u8>>,
}

/// Both files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Accounts {
    accounts: Vec<Account>,
    groups: Vec<Group>,
}

impl Accounts {
    /// Reads both files from `etc`; one that is missing or cannot be read counts as empty.
    pub(crate) fn read(etc: &Path) -> Self {
        let passwd = read_bounded(&etc.join("passwd")).unwrap_or_default();
        let group = read_bounded(&etc.join("group")).unwrap_or_default();
        Self::parse(&passwd, &group)
    }

    /// Understands the contents of both files.
    pub(crate) fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            accounts: lines(passwd).filter_map(Account::parse).collect(),
            groups: lines(group).filter_map(Group::parse).collect(),
        }
    }

    /// The first account with this name, as the C library would find it.
    pub(crate) fn named(&self, name: &[u8]) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
    }

    /// The first account with this user id.
    pub(crate) fn with_uid(&self, uid: u32) -> Option<&Account> {
        self.accounts.iter().find(|account| account.uid == uid)
    }

    /// The first group with this name.
    pub(crate) fn group_named(&self, name: &[u8]) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Ids of all groups of a user: the primary one first, then each that lists the name.
    pub(crate) fn groups_of(&self, name: &[u8], primary: u32) -> Vec<u32> {
        let mut ids = vec![primary];
        for group in self.groups.iter().filter(|group| group.members.iter().any(|member| member == name)) {
            if !ids.contains(&group.gid) {
                ids.push(group.gid);
            }
        }
        ids
    }
}

impl Account {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_vec();
        let _password = fields.next()?;
        let uid = parse_id(fields.next()?)?;
        let gid = parse_id(fields.next()?)?;
        let _comment = fields.next();
        let home = fields.next().unwrap_or_default().to_vec();
        let shell = fields.next().unwrap_or_default().to_vec();
        Some(Self { name, uid, gid, home, shell })
    }
}

impl Group {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_vec();
        let _password = fields.next()?;
        let gid = parse_id(fields.next()?)?;
        let members = fields.next().unwrap_or_default();
        let members = members.split(|byte| *byte == b',').filter(|member| !member.is_empty());
        Some(Self { name, gid, members: members.map(<[u8]>::to_vec).collect() })
    }
}

/// The file with this user in it, `None` if it has the user already.
///
/// A line of that name with other ids or another home gets the wanted ones and keeps the rest. Otherwise a line is
/// added *before* the first one with the same uid, so that the C library answers questions about the uid with
/// the wanted name and home (an image may well have a `node` or `ubuntu` with the uid 1000). Only root keeps its
/// first place, because scripts ask whether they run as `root`.
pub(crate) fn with_account(passwd: &[u8], wanted: &Account) -> Option<Vec<u8>> {
    let same_name = |line: &[u8]| Account::parse(line).is_some_and(|account| account.name == wanted.name);
    if let Some(line) = lines(passwd).find(|line| same_name(line)) {
        let account = Account::parse(line)?;
        if (account.uid, account.gid, &account.home) == (wanted.uid, wanted.gid, &wanted.home) {
            return None;
        }
        let mut fields: Vec<Vec<u8>> = line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        fields.resize(7, Vec::new());
        for (index, value) in [(2, id_text(wanted.uid)), (3, id_text(wanted.gid)), (5, wanted.home.clone())] {
            if let Some(field) = fields.get_mut(index) {
                *field = value;
            }
        }
        return Some(replace_line(passwd, &same_name, &fields.join(&b':')));
    }
    let fields: [&[u8]; 7] =
        [&wanted.name, b"*", &id_text(wanted.uid), &id_text(wanted.gid), b"", &wanted.home, &wanted.shell];
    let same_id = |line: &[u8]| Account::parse(line).is_some_and(|account| account.uid == wanted.uid);
    Some(insert_line(passwd, &fields.join(&b':'), wanted.uid, &same_id))
}

/// The file with a group of this name and id in it, `None` if it has that already; like [`with_account`].
pub(crate) fn with_group(group: &[u8], name: &[u8], gid: u32) -> Option<Vec<u8>> {
    let same_name = |line: &[u8]| Group::parse(line).is_some_and(|group| group.name == name);
    if let Some(found) = lines(group).filter_map(Group::parse).find(|group| group.name == name) {
        if found.gid == gid {
            return None;
        }
        let fields: [&[u8]; 4] = [name, b"x", &id_text(gid), &found.members.join(&b',')];
        return Some(replace_line(group, &same_name, &fields.join(&b':')));
    }
    let fields: [&[u8]; 4] = [name, b"x", &id_text(gid), b""];
    let same_id = |line: &[u8]| Group::parse(line).is_some_and(|group| group.gid == gid);
    Some(insert_line(group, &fields.join(&b':'), gid, &same_id))
}

/// Reads a file of the image, at most 4 MiB of it.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(path)?;
    bytes.truncate(MAX_FILE_BYTES);
    Ok(bytes)
}

/// A decimal id that fits and is not `(uid_t) -1`, which system calls take for "leave it".
pub(crate) fn parse_id(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn id_text(id: u32) -> Vec<u8> {
    id.to_string().into_bytes()
}

fn replace_line(text: &[u8], matches: &dyn Fn(&[u8]) -> bool, new: &[u8]) -> Vec<u8> {
    let mut replaced = false;
    let mut result = Vec::with_capacity(text.len().saturating_add(new.len()));
    for line in lines(text) {
        if !replaced && matches(line) {
            replaced = true;
            result.extend_from_slice(new);
        } else {
            result.extend_from_slice(line);
        }
        result.push(b'\n');
    }
    result
}

fn insert_line(text: &[u8], new: &[u8], id: u32, same_id: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut inserted = false;
    let mut result = Vec::with_capacity(text.len().saturating_add(new.len()));
    for line in lines(text) {
        if !inserted && id != 0 && same_id(line) {
            inserted = true;
            result.extend_from_slice(new);
            result.push(b'\n');
        }
        result.extend_from_slice(line);
        result.push(b'\n');
    }
    if !inserted {
        result.extend_from_slice(new);
        result.push(b'\n');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(uid: u32) -> Account {
        Account {
            name: b"agent".to_vec(),
            uid,
            gid: uid,
            home: b"/home/agent".to_vec(),
            shell: b"/bin/bash".to_vec(),
        }
    }

    fn passwd(text: &str, uid: u32) -> Option<String> {
        with_account(text.as_bytes(), &agent(uid)).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_user_is_added_at_the_end() {
        let before = "root:x:0:0:root:/root:/bin/bash\n";
        let after = passwd(before, 1000).unwrap();
        assert_eq!(after, format!("{before}agent:*:1000:1000::/home/agent:/bin/bash\n"));
        assert_eq!(passwd(&after, 1000), None);
    }

    #[test]
    fn a_user_goes_before_another_with_its_id() {
        let before = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/bash\n";
        let after = passwd(before, 1000).unwrap();
        assert_eq!(
            after,
            "root:x:0:0:root:/root:/bin/sh\nagent:*:1000:1000::/home/agent:/bin/bash\nnode:x:1000:1000::/home/node:/bin/bash\n"
        );
        let accounts = Accounts::parse(after.as_bytes(), b"");
        assert_eq!(accounts.with_uid(1000).unwrap().name, b"agent");
        assert_eq!(accounts.named(b"node").unwrap().uid, 1000);
    }

    #[test]
    fn root_stays_the_first_with_its_id() {
        let after = passwd("root:x:0:0:root:/root:/bin/sh\n", 0).unwrap();
        assert_eq!(Accounts::parse(after.as_bytes(), b"").with_uid(0).unwrap().name, b"root");
    }

    #[test]
    fn a_user_of_that_name_gets_the_ids_and_keeps_the_rest() {
        let before = "agent:x:999:998:The Agent:/srv/agent:/bin/zsh\nlast:x:5:5::/:/bin/sh";
        assert_eq!(
            passwd(before, 1000).unwrap(),
            "agent:x:1000:1000:The Agent:/home/agent:/bin/zsh\nlast:x:5:5::/:/bin/sh\n"
        );
    }

    #[test]
    fn an_empty_file_and_one_without_final_newline_will_do() {
        assert_eq!(passwd("", 7).unwrap(), "agent:*:7:7::/home/agent:/bin/bash\n");
        assert!(passwd("root:x:0:0:::", 7).unwrap().starts_with("root:x:0:0:::\nagent:"));
    }

    #[test]
    fn lines_that_are_not_understood_are_kept() {
        let before = "+::::::\n# comment\nbad:x:notanumber:0:::\nbig:x:4294967295:0:::\nshort:x:1\n";
        assert!(passwd(before, 1000).unwrap().starts_with(before));
        assert_eq!(Accounts::parse(before.as_bytes(), b""), Accounts::default());
    }

    #[test]
    fn groups_are_added_and_corrected() {
        let add =
            |text: &str| with_group(text.as_bytes(), b"agent", 1000).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(add("root:x:0:\n").unwrap(), "root:x:0:\nagent:x:1000:\n");
        assert_eq!(add("node:x:1000:\n").unwrap(), "agent:x:1000:\nnode:x:1000:\n");
        assert_eq!(add("agent:x:5:a,b\n").unwrap(), "agent:x:1000:a,b\n");
        assert_eq!(add("agent:x:1000:\n"), None);
    }

    #[test]
    fn supplementary_groups_come_after_the_primary_one() {
        let accounts = Accounts::parse(
            b"",
            b"adm:x:4:agent,x\nagent:x:1000:\nvideo:x:44:y,agent\nagent2:x:1000:agent\n",
        );
        assert_eq!(accounts.groups_of(b"agent", 1000), [1000, 4, 44]);
        assert_eq!(accounts.groups_of(b"nobody", 9), [9]);
    }
}
