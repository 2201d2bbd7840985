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
    /// The route that is for exactly the path that ends here.
    exact: Option<Arc<Backend>>,
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
            let Some(child) = node.children.get(segment) else { return hits };
            node = child;
            hits.take(node.own.as_ref());
        }
        hits.take(node.exact.as_ref());
        hits
    }

    /// Puts `backend` at its path, in place of what was there.
    pub fn insert(&mut self, backend: Arc<Backend>) {
        let place = Place::of(&backend);
        set(Arc::make_mut(&mut self.root), place, Some(backend.clone()));
    }

    /// Takes away what is at the path of `backend`.
    pub fn remove(&mut self, backend: &Backend) {
        set(Arc::make_mut(&mut self.root), Place::of(backend), None);
    }

    /// Every backend.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let mut waiting = vec![&self.root];
        std::iter::from_fn(move || {
            let node = waiting.pop()?;
            waiting.extend(node.children.values());
            Some([&node.own, &node.below, &node.exact])
        })
        .flat_map(|places| places.into_iter().flatten())
    }
}

/// Where a path leads to in the trie: the segments to go, and which place of the last node.
struct Place<'a> {
    /// What follows the first slash; `None`: the root.
    rest: Option<&'a str>,
    is_exact: bool,
}

impl<'a> Place<'a> {
    fn of(backend: &'a Backend) -> Self {
        let (path, is_exact) = (&*backend.path, backend.is_exact);
        let rest = path.strip_prefix('/').filter(|rest| is_exact || !rest.is_empty());
        Self { rest, is_exact }
    }
}

fn set(node: &mut Node, place: Place<'_>, backend: Option<Arc<Backend>>) {
    let Place { rest, is_exact } = place;
    let Some(rest) = rest else {
        *(if is_exact { &mut node.exact } else { &mut node.own }) = backend;
        return;
    };
    if rest.is_empty() && !is_exact {
        node.below = backend;
        return;
    }
    let (segment, rest) = match rest.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (rest, None),
    };
    let mut child = node.children.get(segment).cloned().unwrap_or_default();
    set(Arc::make_mut(&mut child), Place { rest, is_exact }, backend);
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
        self.own.is_none() && self.below.is_none() && self.exact.is_none() && self.children.is_empty()
    }
}
