//! The paths of one host: a trie on their segments.

use super::backend::Backend;
use std::sync::Arc;

/// Which backend serves which path. Persistent: a clone costs nothing, a change copies what is on its way.
///
/// `/foo` serves itself and what is below it, `/foo/` only what is below; nothing serves `/foobar` for `/foo`. Both `/`
/// and the empty path are the root, which serves everything.
#[derive(Clone, Default)]
pub(crate) struct Paths {
    root: Arc<Node>,
}

/// The longest paths that fit, one for each question.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hits<'a> {
    /// Of all routes.
    pub any: Option<&'a Arc<Backend>>,
    /// Of those that serve plain requests.
    pub insecure: Option<&'a Arc<Backend>>,
    /// Of those that serve requests over TLS that ends here.
    pub secure: Option<&'a Arc<Backend>>,
}

#[derive(Clone, Default)]
struct Node {
    /// The route whose path ends here.
    own: Option<Arc<Backend>>,
    /// The route whose path ends in a slash here.
    below: Option<Arc<Backend>>,
    children: imbl::HashMap<Arc<str>, Arc<Node>>,
}

// === impl Paths ===

impl Paths {
    /// What fits `path`, which is without its query.
    pub fn find(&self, path: &str) -> Hits<'_> {
        let mut hits = Hits::default();
        let mut node = &self.root;
        hits.take(node.own.as_ref());
        let Some(rest) = path.strip_prefix('/') else { return hits };
        for segment in rest.split('/') {
            hits.take(node.below.as_ref());
            if node.children.is_empty() {
                return hits;
            }
            let Some(child) = node.children.get(segment) else { return hits };
            node = child;
            hits.take(node.own.as_ref());
        }
        hits
    }

    /// Puts `backend` at its path, in place of what was there.
    pub fn insert(&mut self, backend: Arc<Backend>) {
        let path = backend.path.clone();
        self.set(&path, Some(backend));
    }

    /// Takes away what is at exactly `path`.
    pub fn remove(&mut self, path: &str) {
        self.set(path, None);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Every backend.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let mut waiting = vec![&self.root];
        std::iter::from_fn(move || {
            let node = waiting.pop()?;
            waiting.extend(node.children.values());
            Some([&node.own, &node.below])
        })
        .flat_map(|places| places.into_iter().flatten())
    }

    fn set(&mut self, path: &str, backend: Option<Arc<Backend>>) {
        let path = path.strip_prefix('/').unwrap_or(path);
        set(Arc::make_mut(&mut self.root), (!path.is_empty()).then_some(path), backend);
    }
}

/// `rest` is what follows the slash after the node; `None`: the path ends at the node.
fn set(node: &mut Node, rest: Option<&str>, backend: Option<Arc<Backend>>) {
    let Some(rest) = rest else {
        node.own = backend;
        return;
    };
    if rest.is_empty() {
        node.below = backend;
        return;
    }
    let (segment, rest) = match rest.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (rest, None),
    };
    let mut child = node.children.get(segment).cloned().unwrap_or_default();
    set(Arc::make_mut(&mut child), rest, backend);
    if child.is_empty() {
        node.children.remove(segment);
    } else {
        node.children.insert(segment.into(), child);
    }
}

// === impl Hits ===

impl<'a> Hits<'a> {
    /// A longer path has come: it is better for all questions that it answers.
    fn take(&mut self, backend: Option<&'a Arc<Backend>>) {
        let Some(backend) = backend else { return };
        self.any = Some(backend);
        if backend.serves_plain() {
            self.insecure = Some(backend);
        }
        if backend.serves_tls() {
            self.secure = Some(backend);
        }
    }
}

// === impl Node ===

impl Node {
    fn is_empty(&self) -> bool {
        self.own.is_none() && self.below.is_none() && self.children.is_empty()
    }
}
