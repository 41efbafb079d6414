//! From the lines of a lock to [`Lock`].

use std::collections::{HashMap, hash_map::Entry};

use super::{
    form::{Form, Name, PROFILE, Value, form, is_pin_name},
    line::{self, Line},
    model::{Lock, LockedAgent, LockedImage, LockedSetup, LockedSnapshot, Pin},
    thing::{Statement, Thing},
};
use crate::{
    decode::closest,
    fault::{Fault, Faults},
    scan,
    source::Source,
    span::{Span, Spanned},
    types::shorten,
};

/// As many faults as anybody reads.
const MAX_FAULTS: usize = 100;

/// What git begins the lines with that stand around two versions of a text.
const MARKERS: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];

/// The fault of lines that contradict each other.
const CONFLICT: &str = "lock::conflict";

/// A lock, and where in its text it says what.
#[derive(Clone, Debug)]
pub struct ParsedLock {
    /// What it says.
    pub lock: Lock,
    pub(super) source: Source,
    places: HashMap<(Option<String>, Thing), Span>,
}

impl ParsedLock {
    /// Where the lock of the machine of this profile, or of none, speaks of `thing`.
    pub(super) fn place(&self, profile: Option<&str>, thing: &Thing) -> Option<Span> {
        self.places.get(&(profile.map(str::to_owned), thing.clone())).copied()
    }

    /// The same as `sandbox.lock:12`.
    #[must_use]
    pub fn line(&self, profile: Option<&str>, thing: &Thing) -> Option<String> {
        let place = self.place(profile, thing)?;
        Some(format!("{}:{}", self.source.name(), self.source.line(place.offset)))
    }
}

/// Reads a lock. `name` is what diagnostics call the file.
///
/// Identical lines count once, so that a merge of two branches that takes the lines of both is a lock again.
///
/// # Errors
/// [`Faults`] with everything that is wrong with it; above all, lines that say different things of the same.
pub fn parse(name: &str, text: &[u8]) -> Result<ParsedLock, Faults> {
    let (parsed, faults) = read(name, text, false)?;
    if faults.is_empty() { Ok(parsed) } else { Err(Faults::new(name, faults)) }
}

/// Reads a lock to make a new one of it: what its lines contradict each other about, as after a merge, is left out.
///
/// # Errors
/// As [`parse`], if anything else is wrong.
pub fn recover(name: &str, text: &[u8]) -> Result<ParsedLock, Faults> {
    let (parsed, faults) = read(name, text, true)?;
    let others: Vec<_> = faults.into_iter().filter(|fault| fault.code() != CONFLICT).collect();
    if others.is_empty() { Ok(parsed) } else { Err(Faults::new(name, others)) }
}

fn read(name: &str, text: &[u8], lenient: bool) -> Result<(ParsedLock, Vec<Fault>), Faults> {
    let only = |faults| Faults::new(name, faults);
    let mut source = scan::decode(name, text, &scan::LOCK).map_err(|fault| only(vec![fault]))?;
    if let Some(marker) = first_marker(source.text()) {
        if !lenient {
            let fault = Fault::error(&source, CONFLICT, marker, "the merge was not finished", "git's mark")
                .with_help("sbx lock takes the lines of both sides, and resolves what they do not agree on");
            return Err(only(vec![fault]));
        }
        source = Source::new(name, without_markers(source.text()));
    }
    let (lines, faults) = line::lines(&source).map_err(only)?;
    let mut reader = Reader { source: &source, faults, known: Vec::new(), indices: HashMap::new() };
    for line in &lines {
        reader.line(line);
    }
    let Reader { mut faults, known, .. } = reader;
    faults.sort_by_key(Fault::span);
    let (mut lock, mut places) = (Lock::default(), HashMap::new());
    for Known { profile, statement, span, .. } in known.into_iter().filter(|known| !known.disputed) {
        places.insert((profile.clone(), statement.thing()), span);
        let machine = match profile {
            None => &mut lock.base,
            Some(profile) => lock.profiles.entry(profile).or_default(),
        };
        machine.learn(statement);
    }
    Ok((ParsedLock { lock, source, places }, faults))
}

fn first_marker(text: &str) -> Option<Span> {
    let mut offset = 0_usize;
    for line in text.split_inclusive('\n') {
        if line.starts_with("<<<<<<< ") {
            return Some(Span { offset, length: line.trim_end().len() });
        }
        offset = offset.saturating_add(line.len());
    }
    None
}

fn without_markers(text: &str) -> String {
    let is_marker = |line: &str| MARKERS.iter().any(|marker| line.starts_with(marker));
    text.split_inclusive('\n').filter(|line| !is_marker(line)).collect()
}

/// What is known so far of one thing.
struct Known {
    profile: Option<String>,
    statement: Statement,
    span: Span,
    /// Whether another line says something else.
    disputed: bool,
}

struct Reader<'s> {
    source: &'s Source,
    faults: Vec<Fault>,
    known: Vec<Known>,
    /// Where in `known` a thing is.
    indices: HashMap<(Option<String>, Thing), usize>,
}

impl Reader<'_> {
    fn report(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn line(&mut self, line: &Line) {
        let Some(name) = Name::read(&line.name.value) else { return self.unknown(line) };
        if !self.fits(line, name) {
            return;
        }
        let profile = line.property(PROFILE.name).map(|profile| profile.value.clone());
        if let Some(statement) = statement(name, line) {
            self.learn(profile, statement, line.span);
        }
    }

    fn learn(&mut self, profile: Option<String>, statement: Statement, span: Span) {
        let key = (profile.clone(), statement.thing());
        let index = match self.indices.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.known.len());
                self.known.push(Known { profile, statement, span, disputed: false });
                return;
            }
            Entry::Occupied(occupied) => *occupied.get(),
        };
        let Some(known) = self.known.get_mut(index).filter(|known| known.statement != statement) else {
            return;
        };
        known.disputed = true;
        let earlier = known.span;
        let (first, second) = (self.source.line(earlier.offset), self.source.line(span.offset));
        let message = format!("lines {first} and {second} say different things of the same");
        let fault = Fault::error(self.source, CONFLICT, span, message, "the second")
            .and_at(earlier, "the first")
            .with_help("keep one of them, or run: sbx lock");
        self.report(fault);
    }

    fn unknown(&mut self, line: &Line) {
        let name = line.name.value.as_str();
        let message = format!("there is no `{}` in a lock", shorten(name));
        let fault = Fault::error(self.source, "lock::unknown", line.name.span, message, "not known");
        let close = closest(name, Name::ALL.iter().map(|name| name.as_str()));
        self.report(match close.and_then(Name::read) {
            Some(close) => fault.with_help(form(close).example),
            None => fault.with_help("another version of sbx may know it; or run: sbx lock"),
        });
    }

    /// Whether a line has all that it must have, and nothing else.
    fn fits(&mut self, line: &Line, name: Name) -> bool {
        let form = form(name);
        let before = self.faults.len();
        for (value, known) in line.arguments.iter().zip(form.arguments) {
            self.check(value, known, form);
        }
        if let Some(superfluous) = line.arguments.get(form.arguments.len()) {
            self.misshapen(superfluous.span, "this line has too much", "one too many", form);
        }
        if let Some(missing) = form.arguments.get(line.arguments.len()) {
            self.misshapen(line.span, &format!("{} is missing", missing.what), "too short", form);
        }
        for missing in form.required.iter().filter(|value| line.property(value.name).is_none()) {
            self.misshapen(line.span, &format!("`{}` is missing", missing.name), "too short", form);
        }
        for (index, (property, value)) in line.properties.iter().enumerate() {
            let twice = line.properties.iter().take(index).any(|(other, _)| other.value == property.value);
            let mut known = form.required.iter().chain(form.optional).chain([&PROFILE]);
            match known.find(|known| known.name == property.value) {
                Some(_) if twice => self.misshapen(property.span, "this is given twice", "the second", form),
                Some(known) => self.check(value, known, form),
                None => {
                    let message = format!("there is no `{}` here", shorten(&property.value));
                    self.misshapen(property.span, &message, "not known", form);
                }
            }
        }
        if let (Name::Pin(installer), Some(pinned)) = (name, line.arguments.first())
            && !is_pin_name(installer, &pinned.value)
        {
            let message = format!("`{}` is not a package of {}", shorten(&pinned.value), installer.as_str());
            self.misshapen(pinned.span, &message, "cannot be one", form);
        }
        self.faults.len() == before
    }

    fn check(&mut self, value: &Spanned<String>, known: &Value, form: &Form) {
        if !(known.fits)(&value.value) {
            let message = format!("`{}` is not {}", shorten(&value.value), known.what);
            self.misshapen(value.span, &message, &format!("must be {}", known.what), form);
        }
    }

    fn misshapen(&mut self, span: Span, message: &str, label: &str, form: &Form) {
        let fault = Fault::error(self.source, "lock::value", span, message, label);
        self.report(fault.with_help(format!("{}, as sbx lock writes it", form.example)));
    }
}

/// What a line says that has the form of its name; nothing, if it says nothing about a machine.
fn statement(name: Name, line: &Line) -> Option<Statement> {
    let argument = |index: usize| line.arguments.get(index).map(|value| value.value.clone());
    let property = |name: &str| line.property(name).map(|value| value.value.clone());
    let first = argument(0)?;
    Some(match name {
        Name::Lock => return None,
        Name::Image => Statement::Image(LockedImage {
            reference: first,
            platform: property("platform")?,
            digest: property("digest")?,
        }),
        Name::Kernel => Statement::Kernel(first),
        Name::Guest => Statement::Guest(first),
        Name::Agent => Statement::Agent(LockedAgent {
            name: first,
            wanted: property("wanted"),
            version: argument(1)?,
            definition: property("definition")?,
        }),
        Name::Package => Statement::Request(first.parse().ok()?),
        Name::Pin(manager) => Statement::Pin(Pin {
            manager,
            owner: property("for"),
            name: first,
            version: argument(1)?,
            architecture: property("architecture"),
            hash: property("hash")?,
            url: property("url"),
        }),
        Name::Setup => Statement::Setup(LockedSetup { command: first, inputs: property("inputs")? }),
        Name::Snapshot => Statement::Snapshot(LockedSnapshot { digest: first, inputs: property("inputs")? }),
    })
}
