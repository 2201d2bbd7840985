//! A file's documents into objects. What is wrong with one is told beside the others.

use super::document::{self, Broken, Document, Format};
use crate::model::{self, FieldError, Kind, Object, ObjectKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// More objects in one file are refused: an honest cluster of 5,000 nodes with 100,000 pods fits.
const MAX_OBJECTS: usize = 1 << 18;

/// Lists in lists in lists are refused.
const MAX_LISTS: usize = 4;

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The good objects, in their order.
    pub found: Vec<Found>,
    /// What is wrong, in its order: the bad ones, and what is not used of good ones.
    pub rejected: Vec<Rejected>,
    /// Objects of kinds that are not modelled or not wanted.
    pub unused: BTreeMap<ApiKind, Unused>,
}

/// A good object.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its first line.
    pub line: usize,
    /// The object.
    pub object: Object,
}

/// A bad one, or a bad part of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// The field's line, else the document's.
    pub line: usize,
    /// The field's path.
    pub field: String,
    /// What it calls itself.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// Which object it is; `None` when that cannot be told, so that it may be any.
    pub key: Option<ObjectKey>,
}

/// A file has more objects than we take.
#[derive(Debug, thiserror::Error)]
#[error("{0} objects in one file, at most {MAX_OBJECTS} are taken: split it")]
pub(super) struct TooMany(usize);

/// apiVersion and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiKind {
    pub api_version: String,
    pub kind: String,
}

/// Objects of one kind that are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    /// How many.
    pub count: usize,
    /// Where the first one is.
    pub line: usize,
}

/// Reads a file. `seed` tells its generated names from those of other files.
pub(super) fn parse(bytes: &[u8], format: Format, kinds: &BTreeSet<Kind>, seed: &str) -> Result<Parsed, TooMany> {
    let mut decoder = Decoder { kinds, seed, parsed: Parsed::default(), objects: 0 };
    document::for_each(bytes, format, &mut |document| match document {
        Ok(Document { line, json }) => decoder.object(&json, line, None, 0),
        Err(Broken { line, message }) => {
            decoder.objects += 1;
            let error = FieldError { line: None, field: String::new(), message };
            decoder.reject(Rejected::new(error, line, String::new(), None));
        }
    });
    if decoder.objects > MAX_OBJECTS { Err(TooMany(decoder.objects)) } else { Ok(decoder.parsed) }
}

struct Decoder<'a> {
    kinds: &'a BTreeSet<Kind>,
    seed: &'a str,
    parsed: Parsed,
    /// How many objects and lists were met, good or bad.
    objects: usize,
}

/// What every object has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    items: Option<&'a RawValue>,
}

/// How an object calls itself. Read apart from the rest: an object whose labels are wrong still has a name.
#[derive(Default, Deserialize)]
struct Names {
    name: Option<Arc<str>>,
    namespace: Option<Arc<str>>,
}

// === impl Decoder ===

impl Decoder<'_> {
    /// Reads an object, or a list of them. `inherited` is what the items of a typed list are when they do not say.
    fn object(&mut self, json: &str, line: usize, inherited: Option<&ApiKind>, lists: usize) {
        self.objects += 1;
        if self.objects > MAX_OBJECTS {
            return;
        }
        let header = match header(json) {
            Ok(header) => header,
            Err(error) => return self.reject(Rejected::new(error, line, String::new(), None)),
        };
        let named = header.kind.filter(|kind| !kind.is_empty());
        let api_kind = match (header.api_version, named, inherited) {
            (Some(api_version), Some(kind), _) => ApiKind { api_version, kind },
            (None, None, Some(inherited)) => inherited.clone(),
            (_, None, _) => {
                return self.reject_unnamed(line, "kind", "the kind is missing: is this a Kubernetes object?");
            }
            (None, Some(_), _) => return self.reject_unnamed(line, "apiVersion", "the apiVersion is missing"),
        };
        match header.items {
            Some(items) if api_kind.kind.ends_with("List") => self.list(json, line, items, &api_kind, lists),
            None if api_kind.kind == "List" => {}
            _ => self.single(json, line, &api_kind, header.metadata),
        }
    }

    fn list(&mut self, json: &str, line: usize, items: &RawValue, list: &ApiKind, lists: usize) {
        if lists >= MAX_LISTS {
            return self.reject_unnamed(line, "items", "lists in lists, too deep");
        }
        let values: Vec<&RawValue> = match serde_json::from_str::<Option<_>>(items.get()) {
            Ok(values) => values.unwrap_or_default(),
            Err(_) => {
                let line = line + lines_before(json, items.get());
                return self.reject_unnamed(line, "items", "the items are not a sequence");
            }
        };
        let item_kind = list.kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let inherited = item_kind.map(|kind| ApiKind { api_version: list.api_version.clone(), kind: kind.to_owned() });
        // Counted from one item to the next: from the beginning each time would be quadratic.
        let (mut counted, mut item_line) = (0, line);
        for value in values {
            let offset = offset_in(json, value.get());
            item_line += document::count_lines(&json.as_bytes()[counted..offset]);
            counted = offset;
            self.object(value.get(), item_line, inherited.as_ref(), lists + 1);
        }
    }

    fn single(&mut self, json: &str, line: usize, api_kind: &ApiKind, metadata: Option<&RawValue>) {
        let known = Kind::of(&api_kind.api_version, &api_kind.kind).filter(|kind| self.kinds.contains(kind));
        let Some(kind) = known else {
            let unused = self.parsed.unused.entry(api_kind.clone()).or_insert(Unused { count: 0, line });
            unused.count += 1;
            return;
        };
        let seed = format!("{}#{}", self.seed, self.objects);
        match Object::parse(kind, json, &seed) {
            Ok(object) => {
                for fault in object.faults(json) {
                    let key = object.key();
                    self.reject(Rejected::new(fault, line, key.to_string(), Some(key)));
                }
                self.parsed.found.push(Found { line, object });
            }
            Err(error) => {
                let names = metadata.and_then(|metadata| serde_json::from_str(metadata.get()).ok()).unwrap_or_default();
                let (label, key) = identify(kind, names);
                self.reject(Rejected::new(error, line, label, key));
            }
        }
    }

    fn reject_unnamed(&mut self, line: usize, field: &str, message: &str) {
        let error = FieldError { line: None, field: field.to_owned(), message: message.to_owned() };
        self.reject(Rejected::new(error, line, String::new(), None));
    }

    fn reject(&mut self, rejected: Rejected) {
        if self.objects <= MAX_OBJECTS {
            self.parsed.rejected.push(rejected);
        }
    }
}

fn header(json: &str) -> Result<Header<'_>, FieldError> {
    if !json.starts_with('{') {
        return Err(FieldError {
            line: None,
            field: String::new(),
            message: "not a Kubernetes object but a mere value".to_owned(),
        });
    }
    model::decode(json)
}

/// What a bad object calls itself, and its key where there is enough for one.
fn identify(kind: Kind, names: Names) -> (String, Option<ObjectKey>) {
    let Some(name) = names.name else { return (kind.to_string(), None) };
    let namespace = match (kind.is_namespaced(), names.namespace) {
        (true, namespace) => namespace.filter(|name| !name.is_empty()).unwrap_or_else(|| Arc::from("default")),
        (false, _) => Arc::from(""),
    };
    let key = ObjectKey { kind, namespace, name };
    (key.to_string(), Some(key))
}

impl Rejected {
    fn new(error: FieldError, line: usize, object: String, key: Option<ObjectKey>) -> Self {
        let line = error.line.map_or(line, |within| line + within - 1);
        Self { line, field: error.field, object, message: error.message, key }
    }
}

fn lines_before(json: &str, part: &str) -> usize {
    document::count_lines(&json.as_bytes()[..offset_in(json, part)])
}

/// Where `part`, which was borrowed from `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len())
}

#[cfg(test)]
mod tests;
