//! A package more or less in `packages`.

use super::{
    EditError, first_error,
    layout::{Insertion, Layout, Piece},
};
use crate::{
    decode::quoted,
    fault::Fault,
    lock::Request,
    model::{Manifest, PackageSet, Packages, Profile},
    parse_any as parse,
    source::Source,
    span::{Span, Spanned},
};

/// What an edit did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PackageChange {
    /// Nothing: the package is there already, or was not there.
    Nothing,
    /// It is there now.
    Added,
    /// It was there in this version.
    Replaced(String),
    /// It is gone.
    Removed,
}

/// What came of an edit.
#[derive(Clone, Debug)]
pub struct PackageEdit {
    /// The whole text.
    pub text: String,
    /// How it differs from the old one.
    pub change: PackageChange,
    /// Line of the package, counted from 1: in the old text, if it is gone; none, if it was not there.
    pub line: Option<usize>,
    /// Whether this made the `packages` of a profile, which now stand for the manifest's.
    pub made_packages: bool,
}

/// Adds a package to the manifest `text`, which diagnostics call `name`, or to one of its profiles: to the line of its
/// manager, which is made if there is none. The same package in another version is replaced; without a version, it stays.
///
/// # Errors
/// If the manifest has faults, or is written so that there is no place for it.
pub fn add_package(
    name: &str,
    text: &[u8],
    profile: Option<&str>,
    request: &Request,
) -> Result<PackageEdit, EditError> {
    let old = parse(name, text)?.manifest;
    let place = Place::find(&old, profile)?;
    let source = &old.source;
    let known = place.sets().iter().flat_map(|set| place.named(set, request)).next();
    let (cut, insertion, change) = match known {
        Some(known) if known.value == request.name || request.package() == request.name => {
            return Ok(unchanged(source, Some(known)));
        }
        Some(known) => {
            let insertion = Insertion { offset: known.span.offset, text: quoted(&request.name) };
            (known.span, Some(insertion), PackageChange::Replaced(known.value.clone()))
        }
        None => {
            let insertion = Layout::new(source).and_then(|layout| place.insertion(&layout, request));
            (Span::default(), insertion, PackageChange::Added)
        }
    };
    let insertion = insertion.ok_or_else(|| place.unfit(source, request))?;
    let without = without(source.text(), cut).ok_or_else(|| place.unfit(source, request))?;
    let text = insertion.applied_to(&without).ok_or_else(|| place.unfit(source, request))?;
    let mut expected = place.packages();
    if let PackageChange::Replaced(before) = &change {
        expected.retain(|other| other.manager != request.manager || other.name != *before);
    }
    expected.push(request.clone());
    let new = place.verified(name, &text, request, expected)?;
    let added = Place::find(&new, profile)?.sets().iter().flat_map(|set| place.named(set, request)).next();
    let line = added.map(|added| new.source.line(added.span.offset));
    Ok(PackageEdit { made_packages: profile.is_some() && place.node().is_none(), text, change, line })
}

/// Takes a package out of the manifest `text`, or of one of its profiles, in whatever version it is there. Lines that it
/// leaves empty go, comments stay.
///
/// # Errors
/// If the manifest has faults, or is written so that the package cannot be cut out.
pub fn remove_package(
    name: &str,
    text: &[u8],
    profile: Option<&str>,
    request: &Request,
) -> Result<PackageEdit, EditError> {
    let old = parse(name, text)?.manifest;
    let place = Place::find(&old, profile)?;
    let source = &old.source;
    let first = place.sets().iter().flat_map(|set| place.named(set, request)).next();
    let Some(first) = first else { return Ok(unchanged(source, None)) };
    let line = source.line(first.span.offset);
    let layout = Layout::new(source).ok_or_else(|| place.unfit(source, request))?;
    let mut cuts = Vec::new();
    for set in place.sets() {
        let packages: Vec<_> = place.named(set, request).collect();
        if packages.len() == set.names.len() {
            cuts.extend(place.cut_set(&layout, set));
        } else {
            cuts.extend(packages.iter().map(|package| layout.cut_argument(package.span)));
        }
    }
    // From the end, so that the places before stay what they are.
    let text = cuts.into_iter().rev().try_fold(source.text().to_owned(), |text, cut| without(&text, cut));
    let text = text.ok_or_else(|| place.unfit(source, request))?;
    let mut expected = place.packages();
    expected.retain(|other| !other.is_about(request));
    place.verified(name, &text, request, expected)?;
    Ok(PackageEdit { text, change: PackageChange::Removed, line: Some(line), made_packages: false })
}

fn unchanged(source: &Source, known: Option<&Spanned<String>>) -> PackageEdit {
    PackageEdit {
        text: source.text().to_owned(),
        change: PackageChange::Nothing,
        line: known.map(|known| source.line(known.span.offset)),
        made_packages: false,
    }
}

fn without(text: &str, cut: Span) -> Option<String> {
    let (before, after) = (text.get(..cut.offset)?, text.get(cut.end()..)?);
    Some(format!("{before}{after}"))
}

/// The part of the manifest that is edited.
#[derive(Clone, Copy)]
struct Place<'m> {
    manifest: &'m Manifest,
    profile: Option<&'m Profile>,
}

impl<'m> Place<'m> {
    fn find(manifest: &'m Manifest, profile: Option<&str>) -> Result<Self, Fault> {
        let Some(name) = profile else { return Ok(Self { manifest, profile: None }) };
        match manifest.profiles.iter().find(|profile| profile.name.value == name) {
            Some(profile) => Ok(Self { manifest, profile: Some(profile) }),
            None => Err(manifest.no_profile(name)),
        }
    }

    fn node(self) -> Option<&'m Packages> {
        let settings = self.profile.map_or(&self.manifest.settings, |profile| &profile.settings);
        settings.packages.as_ref()
    }

    fn sets(self) -> &'m [PackageSet] {
        self.node().map_or(&[], |packages| &packages.sets)
    }

    /// The packages of a set that `request` is about.
    fn named<'s>(self, set: &'s PackageSet, request: &Request) -> impl Iterator<Item = &'s Spanned<String>> {
        let (manager, name) = (request.manager, request.package().to_owned());
        set.names
            .iter()
            .filter(move |known| set.manager == manager && manager.package_name(&known.value) == name)
    }

    /// All packages, in some order.
    fn packages(self) -> Vec<Request> {
        let names = self.sets().iter().flat_map(|set| set.names.iter().map(move |name| (set.manager, name)));
        names.map(|(manager, name)| Request { manager, name: name.value.clone() }).collect()
    }

    fn insertion(self, layout: &Layout<'_>, request: &Request) -> Option<Insertion> {
        let alike = self.sets().iter().rfind(|set| set.manager == request.manager);
        if let Some(set) = alike {
            return Some(Insertion { offset: set.span.end(), text: format!(" {}", quoted(&request.name)) });
        }
        let header = format!("{} {}", request.manager.as_str(), quoted(&request.name));
        let piece = Piece { header, children: Vec::new() };
        if let Some(packages) = self.node() {
            let Some(block) = layout.block(packages.span.end()) else {
                return layout.in_new_block(packages.span, &piece);
            };
            return match packages.sets.last() {
                Some(before) => layout.after(before.span, block, &piece),
                None => layout.at_end(block, &piece),
            };
        }
        let node = Piece { header: "packages".to_owned(), children: vec![piece] };
        let Some(profile) = self.profile else { return Some(layout.at_end_of_file(&node)) };
        match layout.block(profile.span.end()) {
            Some(block) => layout.at_end(block, &node),
            None => layout.in_new_block(profile.span, &node),
        }
    }

    /// What to cut out so that a manager has no line any more. `packages` without lines goes as well, but not in a profile:
    /// there, it means that the manifest's are not installed.
    fn cut_set(self, layout: &Layout<'_>, set: &PackageSet) -> Vec<Span> {
        match self.node() {
            Some(packages) if self.profile.is_none() && layout.is_alone(packages.span, set.span) => {
                layout.cut_node(layout.whole(packages.span))
            }
            _ => layout.cut_node(set.span),
        }
    }

    /// The manifest that `text` is, if it has exactly the `expected` packages here, and elsewhere those that it had.
    fn verified(
        self,
        name: &str,
        text: &str,
        request: &Request,
        mut expected: Vec<Request>,
    ) -> Result<Manifest, EditError> {
        let new = parse(name, text.as_bytes()).map_err(first_error)?.manifest;
        let source = &self.manifest.source;
        let own = self.profile.map(|profile| profile.name.value.as_str());
        let names = |manifest: &Manifest| {
            let profiles = manifest.profiles.iter().map(|profile| Some(profile.name.value.clone()));
            std::iter::once(None).chain(profiles).collect::<Vec<_>>()
        };
        let mut fits = names(&new) == names(self.manifest);
        for profile in names(&new) {
            let (Ok(before), Ok(after)) =
                (Self::find(self.manifest, profile.as_deref()), Place::find(&new, profile.as_deref()))
            else {
                fits = false;
                break;
            };
            let mut found = after.packages();
            let mut wanted =
                if profile.as_deref() == own { std::mem::take(&mut expected) } else { before.packages() };
            found.sort();
            wanted.sort();
            fits &= found == wanted;
        }
        if fits { Ok(new) } else { Err(self.unfit(source, request).into()) }
    }

    /// The fault of a text that leaves no place.
    fn unfit(self, source: &Source, request: &Request) -> Fault {
        let span = self
            .node()
            .map(|packages| packages.span)
            .or_else(|| self.profile.map(|profile| profile.span))
            .unwrap_or_default();
        let message = "sbx cannot tell how to change this";
        Fault::error(source, "edit::layout", span, message, "written in an unusual way").with_help(format!(
            "change it yourself: packages {{ {} {}; }}",
            request.manager.as_str(),
            quoted(&request.name)
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(text: &str, request: &str) -> Result<PackageEdit, EditError> {
        add_package("sandbox.kdl", text.as_bytes(), None, &request.parse().unwrap())
    }

    fn remove(text: &str, request: &str) -> Result<PackageEdit, EditError> {
        remove_package("sandbox.kdl", text.as_bytes(), None, &request.parse().unwrap())
    }

    #[test]
    fn a_package_goes_to_those_of_its_manager() {
        for (before, after, line) in [
            (
                "image \"d\"\npackages {\n  apt \"git\" // why\n}\n",
                "image \"d\"\npackages {\n  apt \"git\" \"jq\" // why\n}\n",
                3,
            ),
            (
                "packages { apt git; npm \"x\" }\nimage \"d\"\n",
                "packages { apt git \"jq\"; npm \"x\" }\nimage \"d\"\n",
                1,
            ),
            (
                "image \"d\"\npackages {\n\tapt \"git\" \\\n\t\t\"curl\" /-\"wget\"\n}\n",
                "image \"d\"\npackages {\n\tapt \"git\" \\\n\t\t\"curl\" \"jq\" /-\"wget\"\n}\n",
                4,
            ),
            (
                "image \"d\"\npackages {\n  npm \"x\" // c\n}\n",
                "image \"d\"\npackages {\n  npm \"x\" // c\n  apt \"jq\"\n}\n",
                4,
            ),
            (
                "image \"d\"\npackages { npm \"x\"; }\n",
                "image \"d\"\npackages { npm \"x\"; apt \"jq\"; }\n",
                2,
            ),
            ("image \"d\"\npackages {}\n", "image \"d\"\npackages { apt \"jq\" }\n", 2),
            ("image \"d\"\npackages\n", "image \"d\"\npackages {\n    apt \"jq\"\n}\n", 3),
            ("image \"d\"\n", "image \"d\"\n\npackages {\n    apt \"jq\"\n}\n", 4),
            (
                "network {\n\tallow a\n}\nimage \"d\"",
                "network {\n\tallow a\n}\nimage \"d\"\n\npackages {\n\tapt \"jq\"\n}",
                7,
            ),
        ] {
            let edit = add(before, "apt:jq").unwrap();
            assert_eq!(
                (edit.text.as_str(), edit.change, edit.line),
                (after, PackageChange::Added, Some(line))
            );
            let again = add(&edit.text, "apt:jq").unwrap();
            assert_eq!(
                (again.text, again.change, again.line),
                (edit.text, PackageChange::Nothing, Some(line))
            );
        }
    }

    #[test]
    fn another_version_stands_in_the_place_of_the_old_one() {
        let text = "image \"d\"\npackages {\n    npm \"a\" \"typescript@4\" // c\n}\n";
        let edit = add(text, "npm:typescript@5").unwrap();
        assert_eq!(edit.text, text.replace("@4", "@5"));
        assert_eq!(edit.change, PackageChange::Replaced("typescript@4".to_owned()));
        assert_eq!(add(text, "npm:typescript").unwrap().change, PackageChange::Nothing);
    }

    #[test]
    fn what_is_removed_leaves_nothing_but_comments() {
        for (before, after) in [
            (
                "image \"d\"\npackages {\n  apt \"git\" \"jq\" // why\n}\n",
                "image \"d\"\npackages {\n  apt \"git\" // why\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  apt \"jq=1\" \"git\"\n}\n",
                "image \"d\"\npackages {\n  apt \"git\"\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  apt \"git\" /* c */ jq\n}\n",
                "image \"d\"\npackages {\n  apt \"git\" /* c */\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  apt \"git\" \\\n    \"jq\"\n}\n",
                "image \"d\"\npackages {\n  apt \"git\" \\\n\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  npm \"x\"\n  apt \"jq\";  \n}\n",
                "image \"d\"\npackages {\n  npm \"x\"\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  npm \"x\"\n  apt \"jq\"  // why\n}\n",
                "image \"d\"\npackages {\n  npm \"x\"\n  // why\n}\n",
            ),
            ("image \"d\"\npackages { apt \"jq\"; npm \"x\" }\n", "image \"d\"\npackages { npm \"x\" }\n"),
            ("image \"d\"\npackages { npm \"x\"; apt \"jq\" }\n", "image \"d\"\npackages { npm \"x\"; }\n"),
            (
                "image \"d\"\n\npackages {\n  apt \"jq\"\n}\nenv { A \"b\"; }\n",
                "image \"d\"\n\nenv { A \"b\"; }\n",
            ),
            ("image \"d\"; packages { apt \"jq\"; }; docker #false\n", "image \"d\"; docker #false\n"),
            (
                "image \"d\"\npackages {\n  // tools\n  apt \"jq\"\n}\n",
                "image \"d\"\npackages {\n  // tools\n}\n",
            ),
            (
                "image \"d\"\npackages {\n  apt \"jq\"\n  apt \"git\" \"jq=2\"\n}\n",
                "image \"d\"\npackages {\n  apt \"git\"\n}\n",
            ),
        ] {
            let edit = remove(before, "apt:jq").unwrap_or_else(|error| panic!("{before:?}: {error:?}"));
            assert_eq!((edit.text.as_str(), edit.change), (after, PackageChange::Removed), "{before:?}");
            let again = remove(after, "apt:jq").unwrap();
            assert_eq!(
                (again.text.as_str(), again.change, again.line),
                (after, PackageChange::Nothing, None)
            );
        }
    }

    #[test]
    fn profiles_have_packages_of_their_own() {
        let text = "image \"d\"\npackages { apt \"git\"; }\nprofile \"ci\" { agent \"shell\"; }\n";
        let request: Request = "apt:jq".parse().unwrap();
        let edit = add_package("x", text.as_bytes(), Some("ci"), &request).unwrap();
        assert!(edit.made_packages);
        assert!(edit.text.contains("{ agent \"shell\"; packages { apt \"jq\" }; }"), "{}", edit.text);
        let gone = remove_package("x", edit.text.as_bytes(), Some("ci"), &request).unwrap();
        assert!(gone.text.contains("packages { }"), "an empty one replaces the manifest's: {}", gone.text);
        assert_eq!(remove(&edit.text, "apt:jq").unwrap().change, PackageChange::Nothing);
        assert!(add_package("x", text.as_bytes(), Some("cy"), &request).is_err());
    }

    prop_compose! {
        fn manifest()(
            before in prop::sample::select(vec!["image \"d\"\n", "// c\r\nimage \"d\"\r\n", "image \"d\";"]),
            open in prop::sample::select(vec!["packages {", "packages {\n", "packages { ", "packages {\r\n\t"]),
            sets in prop::collection::vec((
                prop::sample::select(vec!["apt", "npm", "apk"]),
                prop::collection::vec(prop::sample::select(vec![" \"git\"", " jq", " /* c */ \"curl\"", " \\\n  \"zsh\"", " /-\"jq\" bat"]), 1..4),
                prop::sample::select(vec!["\n", "\n    ", "; ", ";", " // c\n", " /* c */;", " ;\n", " /-\"z\"\n", "\n /-apt \"jq\"\n"]),
            ), 0..4),
            close in prop::sample::select(vec!["}", "\n}\n", " } // c", "}\n\nenv { A \"b\" }\n", "};docker #true\n"]),
        ) -> String {
            let inside: String = sets.iter().map(|(manager, names, gap)| format!("{manager}{}{gap}", names.concat())).collect();
            format!("{before}{open}{inside}{close}")
        }
    }

    /// The manifest as JSON, which has no places, with what is in `packages` in a list of its own.
    fn taken_apart(text: &str) -> (serde_json::Value, Vec<String>) {
        let manifest = parse("sandbox.kdl", text.as_bytes()).unwrap().manifest;
        let mut packages: Vec<_> =
            Place { manifest: &manifest, profile: None }.packages().iter().map(ToString::to_string).collect();
        packages.sort();
        let mut json = serde_json::to_value(&manifest).unwrap();
        json["packages"] = serde_json::Value::Null;
        (json, packages)
    }

    proptest! {
        /// Whatever a manifest looks like, one package comes, or goes, and every comment stays.
        #[test]
        fn edits_change_one_package(text in manifest()) {
            prop_assume!(parse("sandbox.kdl", text.as_bytes()).is_ok());
            let (rest, before) = taken_apart(&text);
            let added = add(&text, "apt:new").unwrap();
            let (new_rest, mut packages) = taken_apart(&added.text);
            prop_assert_eq!(&rest, &new_rest);
            packages.retain(|name| name != "apt:new");
            prop_assert_eq!(&packages, &before);
            let removed = remove(&added.text, "apt:new").unwrap();
            prop_assert_eq!(&taken_apart(&removed.text).1, &before);
            let gone = remove(&text, "apt:jq").unwrap();
            let (new_rest, packages) = taken_apart(&gone.text);
            prop_assert_eq!(&rest, &new_rest);
            let expected: Vec<_> = before.iter().filter(|name| *name != "apt:jq").cloned().collect();
            prop_assert_eq!(&packages, &expected, "{:?} became {:?}", text, gone.text);
            prop_assert_eq!(text.matches("c\n").count() + text.matches("/* c */").count(), gone.text.matches("c\n").count() + gone.text.matches("/* c */").count(), "{:?} became {:?}", text, gone.text);
        }
    }
}
