//! YAML text to a tree of marked nodes, with `${ENV}` replaced.
//!
//! The tree keeps the text of every scalar and where it stood; what a scalar means is decided later, by what the
//! schema expects at its place.

mod substitute;

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::diagnostic::{Diagnostic, Diagnostics, Path, Place, Step};

/// The largest configuration file, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
/// How deep nodes may nest.
const MAX_DEPTH: usize = 32;
/// How many nodes there may be, those that aliases repeat included.
const MAX_NODES: usize = 200_000;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it was written.
    pub place: Place,
    /// What was written.
    pub data: Data,
}

/// What was written.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing, `~` or `null`: the same as leaving the key out.
    Null,
    /// A single value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order of the text; no key twice.
    Mapping(Vec<Entry>),
    /// Something that a diagnostic was already given for.
    Broken,
}

/// A scalar, not yet of any type. It may be a secret, so that `Debug` does not show its text.
#[derive(Clone)]
pub struct Scalar {
    /// Its text, variables replaced.
    pub text: String,
    /// How it was written.
    pub form: Form,
    /// Where its text is from.
    pub origin: Origin,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bare, so that `8080` is a number and `true` a truth value.
    Plain,
    /// In quotes or as a block, so that it is a string.
    Quoted,
}

/// Where the text of a scalar is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was written so.
    Text,
    /// It, or a part of it, came from the environment. A bare one is of whatever type its place calls for.
    Environment,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The node at `path`, or else the place of the nearest one above it that was written.
    pub fn find(&self, path: &Path) -> Result<&Self, Place> {
        let mut node = self;
        let mut place = &self.place;
        for step in path.steps() {
            (node, place) = match (step, &node.data) {
                (Step::Key(key), Data::Mapping(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *key) else {
                        return Err(place.clone());
                    };
                    (&entry.value, &entry.place)
                }
                (Step::Index(index), Data::Sequence(nodes)) => match nodes.get(*index) {
                    Some(node) => (node, &node.place),
                    None => return Err(place.clone()),
                },
                _ => return Err(place.clone()),
            };
        }
        Ok(node)
    }

    /// Where to point for a problem with the value at `path`: at the value, or at its key if it is a whole collection.
    pub fn place_of(&self, path: &Path) -> Place {
        let node = match self.find(path) {
            Ok(node) => node,
            Err(place) => return place,
        };
        match (path.steps().split_last(), &node.data) {
            (Some((Step::Key(key), above)), Data::Mapping(_) | Data::Sequence(_) | Data::Null) => {
                let above = above.iter().fold(Path::root(), |path, step| match step {
                    Step::Key(key) => path.key(key),
                    Step::Index(index) => path.index(*index),
                });
                let entry = self.find(&above).ok().and_then(|node| node.entry(key));
                entry.map_or_else(|| node.place.clone(), |entry| entry.place.clone())
            }
            _ => node.place.clone(),
        }
    }

    /// The entry of this key, if this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

impl Scalar {
    /// Whether this is how YAML's core schema writes nothing.
    pub fn is_null(&self) -> bool {
        self.form != Form::Quoted && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The truth value this is, by YAML's core schema.
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            _ if self.form == Form::Quoted => None,
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// The whole number this is, by YAML's core schema.
    pub fn as_integer(&self) -> Option<i64> {
        if self.form == Form::Quoted {
            return None;
        }
        if let Some(hex) = self.text.strip_prefix("0x") {
            return i64::from_str_radix(hex, 16).ok();
        }
        if let Some(octal) = self.text.strip_prefix("0o") {
            return i64::from_str_radix(octal, 8).ok();
        }
        self.text.parse().ok()
    }

    /// The number this is, by YAML's core schema. Infinity and NaN are of no use in a configuration.
    pub fn as_number(&self) -> Option<f64> {
        let digits = self.text.contains(|c: char| c.is_ascii_digit());
        if self.form == Form::Quoted || !digits {
            return None;
        }
        self.text.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The string this is: anything quoted or from the environment, and whatever bare text is nothing else.
    pub fn as_string(&self) -> Option<&str> {
        let bare_type = self.as_bool().is_some() || self.as_number().is_some() || self.as_integer().is_some();
        let string = self.form == Form::Quoted || self.origin == Origin::Environment || !bare_type;
        string.then_some(self.text.as_str())
    }
}

/// Reads `text`. What cannot be read at all is a diagnostic and gives nothing; a variable that is not set is a
/// diagnostic too, and leaves a [`Data::Broken`] behind so that the rest can still be checked.
pub fn parse(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Node> {
    let mut builder =
        Builder { env, diagnostics, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    let outcome = builder.read(&mut parser);
    let root = builder.root.take();
    if let Err(diagnostic) = outcome {
        diagnostics.push(diagnostic);
        return None;
    }
    let empty = Node { place: Place::File { line: 1, column: 1 }, data: Data::Mapping(Vec::new()) };
    Some(root.filter(|node| !matches!(node.data, Data::Null)).unwrap_or(empty))
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar").field("form", &self.form).finish_non_exhaustive()
    }
}

// === building the tree from the parser's events ===

struct Builder<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    diagnostics: &'a mut Diagnostics,
    open: Vec<Open>,
    /// Finished nodes that have an anchor, and how many nodes each of them is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
}

/// A collection whose end has not come.
struct Open {
    place: Place,
    anchor: usize,
    /// How many nodes there were when it began.
    began: usize,
    data: OpenData,
}

enum OpenData {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<(String, Place)> },
}

impl Builder<'_> {
    fn read(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<(), Diagnostic> {
        let mut documents = 0;
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|e| scan_error(&e))?;
            let place = place(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(fatal(place, "a second YAML document begins here").help(
                            "a configuration is one document: remove the `---`, or use several files",
                        ));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let form = scalar_form(style, tag.as_deref(), &place)?;
                    self.scalar(&text, form, anchor, place)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    refuse_tag(tag.as_deref(), &place)?;
                    self.begin(place, anchor, OpenData::Sequence(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    refuse_tag(tag.as_deref(), &place)?;
                    self.begin(place, anchor, OpenData::Mapping { entries: Vec::new(), key: None })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(anchor) => self.alias(anchor, place)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, data: OpenData) -> Result<(), Diagnostic> {
        if self.expects_key() {
            return Err(fatal(place, "a key must be a single word, not a list or a mapping"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(fatal(place, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.count(1, &place)?;
        self.open.push(Open { place, anchor, began: self.nodes, data });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let data = match open.data {
            OpenData::Sequence(nodes) => Data::Sequence(nodes),
            OpenData::Mapping { entries, .. } => Data::Mapping(entries),
        };
        let size = self.nodes - open.began + 1;
        self.add(Node { place: open.place, data }, open.anchor, size)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Diagnostic> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(fatal(place, "this alias stands for a value that it is itself a part of"));
        };
        let (node, size) = (node.clone(), *size);
        self.count(size, &place)?;
        if self.expects_key() {
            return Err(fatal(place, "an alias cannot be a key"));
        }
        self.add(node, 0, size)
    }

    fn scalar(&mut self, text: &str, form: Form, anchor: usize, place: Place) -> Result<(), Diagnostic> {
        self.count(1, &place)?;
        if self.expects_key() {
            return self.key(text.to_owned(), place);
        }
        let data = match substitute::substitute(text, self.env) {
            Ok(None) => Data::Scalar(Scalar { text: text.to_owned(), form, origin: Origin::Text }),
            Ok(Some(text)) => Data::Scalar(Scalar { text, form, origin: Origin::Environment }),
            Err(problem) => {
                let path = self.path();
                self.diagnostics.push(problem.diagnostic(place.clone(), path));
                Data::Broken
            }
        };
        let data = match data {
            Data::Scalar(scalar) if scalar.is_null() => Data::Null,
            data => data,
        };
        self.add(Node { place, data }, anchor, 1)
    }

    fn key(&mut self, text: String, place: Place) -> Result<(), Diagnostic> {
        let path = self.path().key(&text);
        let Some(Open { data: OpenData::Mapping { entries, key }, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        if text == "<<" {
            return Err(fatal(place, "merge keys (`<<`) are not part of YAML 1.2")
                .help("write the keys out; an alias (`*name`) may stand for a whole value"));
        }
        if let Some(first) = entries.iter().find(|entry| entry.key == text) {
            let line = match first.place {
                Place::File { line, .. } => line,
                _ => 0,
            };
            self.diagnostics.push(
                Diagnostic::error(
                    place.clone(),
                    path.clone(),
                    format!("the same key again; it is already on line {line}"),
                )
                .help("keep one of the two"),
            );
        }
        if text.contains("${") {
            let message = "a variable in a key is not replaced";
            let wrong = Diagnostic::error(place.clone(), path, message);
            self.diagnostics.push(wrong.help("write the key itself; variables stand in values alone"));
        }
        *key = Some((text, place));
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.data) {
            None => self.root = Some(node),
            Some(OpenData::Sequence(nodes)) => nodes.push(node),
            Some(OpenData::Mapping { entries, key }) => {
                let Some((key, place)) = key.take() else {
                    return Err(fatal(node.place, "a value without a key"));
                };
                // A repeated key was reported; the first one stays, so that paths denote one value.
                if !entries.iter().any(|entry| entry.key == key) {
                    entries.push(Entry { key, place, value: node });
                }
            }
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { data: OpenData::Mapping { key: None, .. }, .. }))
    }

    fn count(&mut self, more: usize, place: &Place) -> Result<(), Diagnostic> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(fatal(place.clone(), format!("more than {MAX_NODES} values, aliases written out")));
        }
        Ok(())
    }

    /// The path of the value being read.
    fn path(&self) -> Path {
        self.open.iter().fold(Path::root(), |path, open| match &open.data {
            OpenData::Sequence(nodes) => path.index(nodes.len()),
            OpenData::Mapping { key: Some((key, _)), .. } => path.key(key),
            OpenData::Mapping { key: None, .. } => path,
        })
    }
}

fn scalar_form(style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Result<Form, Diagnostic> {
    if tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str") {
        return Ok(Form::Quoted);
    }
    refuse_tag(tag, place)?;
    Ok(if style == ScalarStyle::Plain { Form::Plain } else { Form::Quoted })
}

fn refuse_tag(tag: Option<&Tag>, place: &Place) -> Result<(), Diagnostic> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(fatal(place.clone(), format!("unknown tag `{tag}`"))
                .help("remove the tag: none is used here"))
        }
        _ => Ok(()),
    }
}

fn place(marker: &Marker) -> Place {
    Place::File { line: marker.line(), column: marker.col() + 1 }
}

fn fatal(place: Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(place, Path::root(), message)
}

fn scan_error(error: &ScanError) -> Diagnostic {
    fatal(place(error.marker()), format!("not YAML: {}", error.info()))
        .help("nothing below this line was read; mend it and check again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn read(text: &str) -> (Option<Node>, String) {
        let mut diagnostics = Diagnostics::new("t.yaml");
        let node = parse(text, &env, &mut diagnostics);
        (node, diagnostics.to_string())
    }

    fn scalar<'a>(node: &'a Node, path: &Path) -> &'a Scalar {
        match &node.find(path).unwrap().data {
            Data::Scalar(scalar) => scalar,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_place() {
        let (node, wrong) = read("a:\n  b: [1, 2]\n  c: x\n");
        let node = node.unwrap();
        assert_eq!(wrong, "");
        let path = Path::root().key("a").key("b").index(1);
        assert_eq!(node.place_of(&path), Place::File { line: 2, column: 10 });
        // A path that was not written points to the nearest key above it.
        let absent = Path::root().key("a").key("z");
        assert_eq!(node.place_of(&absent), Place::File { line: 1, column: 1 });
    }

    #[test]
    fn a_variable_takes_the_type_its_place_calls_for() {
        let (node, _) = read("a: ${PORT}\nb: \"${PORT}\"\nc: ${EMPTY}\nd: 8080\ne: $${PORT}\n");
        let node = node.unwrap();
        let a = scalar(&node, &Path::root().key("a"));
        assert_eq!((a.as_integer(), a.as_string()), (Some(8080), Some("8080")));
        let b = scalar(&node, &Path::root().key("b"));
        assert_eq!((b.as_integer(), b.as_string()), (None, Some("8080")));
        assert!(matches!(node.entry("c").unwrap().value.data, Data::Null));
        let d = scalar(&node, &Path::root().key("d"));
        assert_eq!((d.as_integer(), d.as_string()), (Some(8080), None));
        assert_eq!(scalar(&node, &Path::root().key("e")).as_string(), Some("${PORT}"));
    }

    #[test]
    fn keys_are_never_substituted() {
        let (node, wrong) = read("${PORT}: 1\n");
        assert!(wrong.contains("a variable in a key is not replaced"), "{wrong}");
        assert!(node.unwrap().entry("${PORT}").is_some());
    }

    #[test]
    fn a_value_holding_yaml_stays_one_string() {
        let env = |_: &str| Some("x\nadmin: {address: evil}".to_owned());
        let mut diagnostics = Diagnostics::new("t.yaml");
        let node = parse("a: ${V}\n", &env, &mut diagnostics).unwrap();
        assert!(node.entry("admin").is_none());
        assert_eq!(scalar(&node, &Path::root().key("a")).text, "x\nadmin: {address: evil}");
    }

    #[test]
    fn a_repeated_key_is_an_error_and_the_first_stays() {
        let (node, wrong) = read("a: 1\nb: 2\na: 3\n");
        assert_eq!(scalar(&node.unwrap(), &Path::root().key("a")).text, "1");
        assert_eq!(
            wrong,
            "t.yaml:3:1: error: a: the same key again; it is already on line 1\n    help: keep one of the two\n"
        );
    }

    #[test]
    fn several_documents_tags_and_merge_keys_are_errors() {
        for (text, expected) in [
            ("a: 1\n---\nb: 2\n", "t.yaml:2:1: error: a second YAML document"),
            ("a: !secret x\n", "t.yaml:1:4: error: unknown tag `!secret`"),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", "t.yaml:3:3: error: merge keys"),
            ("[1, 2]: x\n", "t.yaml:1:1: error: a key must be a single word"),
            ("a: [1\n", "error: not YAML"),
        ] {
            let (node, wrong) = read(text);
            assert!(node.is_none() && wrong.contains(expected), "{text:?}: {wrong}");
        }
    }

    #[test]
    fn aliases_repeat_values_within_bounds() {
        let (node, wrong) = read("a: &x [1, 2]\nb: *x\n");
        assert_eq!(wrong, "");
        assert_eq!(scalar(&node.unwrap(), &Path::root().key("b").index(1)).text, "2");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let last = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [last.as_str(); 10].join(", ")));
        }
        let (node, wrong) = read(&bomb);
        assert!(node.is_none() && wrong.contains("values, aliases written out"), "{wrong}");
        let (node, wrong) = read("a: &x [*x]\n");
        assert!(node.is_none() && wrong.contains("itself a part of"), "{wrong}");
    }

    #[test]
    fn depth_is_bounded() {
        let (node, wrong) = read(&format!("a: {}1{}\n", "[".repeat(100), "]".repeat(100)));
        assert!(node.is_none() && wrong.contains("nested more than 32 deep"), "{wrong}");
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        for text in ["", "# nothing\n", "---\n", "~\n"] {
            let (node, wrong) = read(text);
            assert!(matches!(node.unwrap().data, Data::Mapping(entries) if entries.is_empty()), "{text:?}");
            assert_eq!(wrong, "");
        }
    }
}
