//! YAML into JSON, as the clients of the Kubernetes API do it, so that one strict decoder serves both. The JSON has
//! every token on the line it had in the YAML: the line that a decoder reports is the line in the file.
//!
//! Scalars mean what they mean to those clients (go-yaml v2, YAML 1.1): `yes` and `on` are booleans, `0x10` and `010`
//! numbers, and so a label `enabled: yes` is rejected here as the API rejects it. Keys given twice are an error.

mod scalar;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::{HashMap, HashSet};

/// Deeper nesting is refused; Kubernetes objects stay below 30.
pub(super) const MAX_DEPTH: usize = 64;

/// What aliases may add to a document, in bytes. An anchor that is repeated a hundred times is someone's shorthand; one
/// that grows beyond this is an attack.
pub(super) const MAX_ALIAS_BYTES: usize = 4 << 20;

/// What merges (`<<`) may add to a document, in keys.
const MAX_MERGED: usize = 1 << 16;

/// Why a document is not YAML that we take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlError {
    /// The line in the document, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// One document of YAML as JSON, every token on its line. `None` when it is empty or null.
pub(super) fn to_json(document: &str) -> Result<Option<String>, YamlError> {
    let tree = Tree::read(document)?;
    let Some(root) = tree.root else { return Ok(None) };
    if matches!(&tree.nodes[root].value, Value::Scalar(json) if json == "null") {
        return Ok(None);
    }
    let out = String::with_capacity(document.len());
    let mut writer = Writer { tree: &tree, out, line: 1, last_line: count_lines(document), alias_bytes: 0 };
    writer.node(root, 0, false)?;
    Ok(Some(writer.out))
}

/// How many lines a document has, whatever they end with.
fn count_lines(document: &str) -> usize {
    let bytes = document.as_bytes();
    let ends = |(index, byte): (usize, &u8)| match byte {
        b'\r' => bytes.get(index + 1) != Some(&b'\n'),
        _ => *byte == b'\n',
    };
    bytes.iter().enumerate().filter(|end| ends(*end)).count() + 1
}

/// A document, its nodes in the order of their appearance.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    root: Option<usize>,
    /// The parser's anchor ids.
    anchors: HashMap<usize, usize>,
    open: Vec<Open>,
    /// How many entries merges looked at.
    merged: usize,
}

struct Node {
    line: usize,
    value: Value,
}

enum Value {
    /// The scalar as JSON.
    Scalar(String),
    Sequence(Vec<usize>),
    Mapping(Vec<Entry>),
    /// The node of the anchor.
    Alias(usize),
}

struct Entry {
    key: String,
    line: usize,
    value: usize,
}

/// A collection that is being read.
struct Open {
    node: usize,
    /// The key whose value comes next, and its line.
    key: Option<(Key, usize)>,
    /// Keys that were given.
    keys: HashSet<String>,
    /// What is merged when the mapping is complete, because given keys win.
    merges: Vec<usize>,
}

enum Key {
    Name(String),
    /// `<<`, not in quotes.
    Merge,
}

struct Writer<'a> {
    tree: &'a Tree,
    out: String,
    line: usize,
    /// The parser puts an absent value behind the document's end.
    last_line: usize,
    alias_bytes: usize,
}

// === impl Tree ===

impl Tree {
    fn read(document: &str) -> Result<Self, YamlError> {
        let mut tree = Self::default();
        let mut documents = 0;
        for event in Parser::new_from_str(document) {
            let (event, span) = event.map_err(YamlError::from)?;
            if let Event::DocumentStart(_) = event {
                documents += 1;
                if documents > 1 {
                    return Err(YamlError::at(span.start, "a second document begins without `---`"));
                }
            }
            tree.event(event, span)?;
        }
        Ok(tree)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), span.start),
            Event::Alias(anchor) => self.alias(anchor, span.start),
            Event::SequenceStart(anchor, _) => self.begin(Value::Sequence(Vec::new()), anchor, span.start),
            Event::MappingStart(anchor, _) => self.begin(Value::Mapping(Vec::new()), anchor, span.start),
            Event::SequenceEnd | Event::MappingEnd => self.end(span.start),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Marker,
    ) -> Result<(), YamlError> {
        let plain = match tag {
            Some(tag) if tag.is_yaml_core_schema() => style == ScalarStyle::Plain && tag.suffix != "str",
            // The tag `!` alone makes a string of anything; tags of applications mean nothing here.
            Some(tag) => style == ScalarStyle::Plain && !(tag.handle.is_empty() && tag.suffix == "!"),
            None => style == ScalarStyle::Plain,
        };
        if self.wants_key() {
            let key = match (plain, text) {
                (true, "<<") => Some(Key::Merge),
                (true, _) => scalar::key(text).map(Key::Name),
                (false, _) => Some(Key::Name(text.to_owned())),
            };
            return self.take_key(key.ok_or_else(|| YamlError::at(at, "a key is null or no number"))?, at);
        }
        let json = if plain { scalar::to_json(text) } else { Some(scalar::quote(text)) };
        let json = json.ok_or_else(|| YamlError::at(at, format!("{text:?} is not a number that JSON has")))?;
        let node = self.add(Value::Scalar(json), anchor, at);
        self.attach(node, at)
    }

    fn alias(&mut self, anchor: usize, at: Marker) -> Result<(), YamlError> {
        let target = *self.anchors.get(&anchor).ok_or_else(|| YamlError::at(at, "an alias without its anchor"))?;
        if self.open.iter().any(|open| open.node == target) {
            return Err(YamlError::at(at, "an alias inside what it stands for"));
        }
        if self.wants_key() {
            let Value::Scalar(json) = &self.nodes[target].value else {
                return Err(YamlError::at(at, "a key is a collection"));
            };
            let key = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.clone());
            return self.take_key(Key::Name(key), at);
        }
        let node = self.add(Value::Alias(target), 0, at);
        self.attach(node, at)
    }

    fn begin(&mut self, value: Value, anchor: usize, at: Marker) -> Result<(), YamlError> {
        if self.wants_key() {
            return Err(YamlError::at(at, "a key is a collection"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError::at(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let node = self.add(value, anchor, at);
        self.attach(node, at)?;
        self.open.push(Open { node, key: None, keys: HashSet::new(), merges: Vec::new() });
        Ok(())
    }

    fn end(&mut self, at: Marker) -> Result<(), YamlError> {
        let Some(open) = self.open.pop() else { return Err(YamlError::at(at, "an end without its beginning")) };
        let mut keys = open.keys;
        for merge in open.merges {
            self.merge(open.node, merge, &mut keys, at)?;
        }
        Ok(())
    }

    /// Adds what `source` (a mapping or a sequence of mappings) has and `node` has not.
    fn merge(&mut self, node: usize, source: usize, keys: &mut HashSet<String>, at: Marker) -> Result<(), YamlError> {
        let mut mappings = vec![self.resolve(source)];
        if let Value::Sequence(items) = &self.nodes[mappings[0]].value {
            mappings = items.iter().map(|item| self.resolve(*item)).collect();
        }
        for mapping in mappings {
            let Value::Mapping(entries) = &self.nodes[mapping].value else {
                return Err(YamlError::at(at, "what `<<` merges is not a mapping"));
            };
            self.merged += entries.len();
            if self.merged > MAX_MERGED {
                return Err(YamlError::at(at, format!("merges add more than {MAX_MERGED} keys")));
            }
            let missing: Vec<_> = entries
                .iter()
                .filter(|entry| keys.insert(entry.key.clone()))
                .map(|entry| (entry.key.clone(), entry.line, entry.value))
                .collect();
            for (key, line, target) in missing {
                self.nodes.push(Node { line, value: Value::Alias(target) });
                let value = self.nodes.len() - 1;
                if let Value::Mapping(entries) = &mut self.nodes[node].value {
                    entries.push(Entry { key, line, value });
                }
            }
        }
        Ok(())
    }

    fn resolve(&self, node: usize) -> usize {
        // Aliases never refer to aliases: `alias` looks up anchors, and an alias cannot have one. Merged entries can.
        let mut node = node;
        while let Value::Alias(target) = self.nodes[node].value {
            node = target;
        }
        node
    }

    fn add(&mut self, value: Value, anchor: usize, at: Marker) -> usize {
        self.nodes.push(Node { line: at.line(), value });
        let node = self.nodes.len() - 1;
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
        node
    }

    fn wants_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(self.nodes[open.node].value, Value::Mapping(_)))
    }

    fn take_key(&mut self, key: Key, at: Marker) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else { return Err(YamlError::at(at, "a key outside of a mapping")) };
        if let Key::Name(name) = &key
            && !open.keys.insert(name.clone())
        {
            return Err(YamlError::at(at, format!("the key {name:?} is given twice")));
        }
        open.key = Some((key, at.line()));
        Ok(())
    }

    /// Makes `node` the next part of the innermost open collection, or the root.
    fn attach(&mut self, node: usize, at: Marker) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut self.nodes[open.node].value, open.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(_), Some((Key::Merge, _))) => open.merges.push(node),
            (Value::Mapping(entries), Some((Key::Name(key), line))) => entries.push(Entry { key, line, value: node }),
            _ => return Err(YamlError::at(at, "a value without its key")),
        }
        Ok(())
    }
}

// === impl Writer ===

impl Writer<'_> {
    fn node(&mut self, node: usize, depth: usize, in_alias: bool) -> Result<(), YamlError> {
        let tree = self.tree;
        let Node { line, value } = &tree.nodes[node];
        if depth > MAX_DEPTH {
            return Err(YamlError {
                line: *line,
                message: format!("nested deeper than {MAX_DEPTH} levels through aliases"),
            });
        }
        match value {
            Value::Scalar(json) => self.token(json, *line, in_alias)?,
            Value::Alias(target) => self.node(*target, depth + 1, true)?,
            Value::Sequence(items) => {
                self.token("[", *line, in_alias)?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.node(*item, depth + 1, in_alias)?;
                }
                self.out.push(']');
            }
            Value::Mapping(entries) => {
                self.token("{", *line, in_alias)?;
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.token(&scalar::quote(&entry.key), entry.line, in_alias)?;
                    self.out.push(':');
                    self.node(entry.value, depth + 1, in_alias)?;
                }
                self.out.push('}');
            }
        }
        Ok(())
    }

    fn token(&mut self, json: &str, line: usize, in_alias: bool) -> Result<(), YamlError> {
        if in_alias {
            self.alias_bytes += json.len() + 1;
            if self.alias_bytes > MAX_ALIAS_BYTES {
                return Err(YamlError {
                    line,
                    message: format!("aliases add more than {} MiB", MAX_ALIAS_BYTES >> 20),
                });
            }
        } else {
            while self.line < line.min(self.last_line) {
                self.out.push('\n');
                self.line += 1;
            }
        }
        self.out.push_str(json);
        Ok(())
    }
}

// === impl YamlError ===

impl YamlError {
    fn at(marker: Marker, message: impl Into<String>) -> Self {
        Self { line: marker.line().max(1), message: message.into() }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self::at(*error.marker(), format!("not YAML: {}", error.info()))
    }
}

#[cfg(test)]
mod tests;
