//! Names, in lower case and with their labels found: what is looked up.

/// The longest name in wire form (RFC 1035 section 2.3.4).
pub(crate) const MAX_NAME: usize = 255;

/// More labels than these no name of that length has, the root's not counted.
const MAX_LABELS: usize = 127;

/// A name in wire form and lower case, and where its labels begin.
#[derive(Clone)]
pub(crate) struct Name {
    bytes: [u8; MAX_NAME],
    len: u8,
    starts: [u8; MAX_LABELS],
    labels: u8,
}

impl Name {
    /// The name at the start of `wire`, uncompressed; `None` if there is no valid one.
    pub(crate) fn parse(wire: &[u8]) -> Option<Self> {
        let mut name = Self { bytes: [0; MAX_NAME], len: 0, starts: [0; MAX_LABELS], labels: 0 };
        let mut at = 0usize;
        loop {
            let length = *wire.get(at)?;
            if length == 0 {
                break;
            }
            // The two highest bits set are a pointer, which nothing before a question can be the target of; the other
            // two values were never used (RFC 6891 section 5).
            if length > 63 || at + 1 + usize::from(length) >= MAX_NAME {
                return None;
            }
            name.starts[usize::from(name.labels)] = u8::try_from(at).ok()?;
            name.labels += 1;
            at += 1 + usize::from(length);
        }
        let end = at + 1;
        name.bytes[..end].copy_from_slice(wire.get(..end)?);
        // Lengths are below 'A', so that they stay as they are.
        name.bytes[..end].make_ascii_lowercase();
        name.len = u8::try_from(end).ok()?;
        Some(name)
    }

    /// The name as it is in text, like `www.example.com.` or without the final dot.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut wire = Vec::new();
        append_wire(text, &mut wire).then_some(())?;
        wire.push(0);
        Self::parse(&wire)
    }

    /// Its first `labels` labels followed by `suffix`, which is a name in wire form.
    pub(crate) fn joined(&self, labels: usize, suffix: &[u8]) -> Option<Self> {
        let mut wire = [0; MAX_NAME];
        let prefix = self.before(labels);
        let all = prefix.len() + suffix.len();
        wire.get_mut(..prefix.len())?.copy_from_slice(prefix);
        wire.get_mut(prefix.len()..all)?.copy_from_slice(suffix);
        Self::parse(&wire[..all])
    }

    /// In wire form, the root label included.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// How many labels it has, the root's not counted.
    pub(crate) fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Where the label `index`, counted from the left, begins; the root's for the one after the last.
    pub(crate) fn start(&self, index: usize) -> usize {
        if index >= self.labels() { usize::from(self.len) - 1 } else { usize::from(self.starts[index]) }
    }

    /// The contents of the label `index`, counted from the left; empty past the last.
    pub(crate) fn label(&self, index: usize) -> &[u8] {
        if index >= self.labels() {
            return &[];
        }
        &self.bytes[self.start(index) + 1..self.start(index + 1)]
    }

    /// The labels from `first` to before `end` in wire form, without a root label.
    pub(crate) fn slice(&self, first: usize, end: usize) -> &[u8] {
        &self.bytes[self.start(first)..self.start(end)]
    }

    /// The name that is left when `labels` labels are taken from its front, in wire form.
    pub(crate) fn after(&self, labels: usize) -> &[u8] {
        &self.bytes[self.start(labels)..usize::from(self.len)]
    }

    /// The first `labels` labels, without a root label.
    pub(crate) fn before(&self, labels: usize) -> &[u8] {
        self.slice(0, labels)
    }

    /// How many labels it has before `zone`, whose labels number `labels`, if it is in there.
    pub(crate) fn depth_in(&self, zone: &[u8], labels: usize) -> Option<usize> {
        let depth = self.labels().checked_sub(labels)?;
        (self.after(depth) == zone).then_some(depth)
    }
}

impl std::fmt::Display for Name {
    /// Master file notation (RFC 1035 section 5.1), with the final dot.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.labels == 0 {
            return f.write_str(".");
        }
        for index in 0..self.labels() {
            for byte in self.label(index) {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Appends the labels of a name in text, in wire form and lower case, without a root label; false, with nothing of use
/// appended, if a label is empty or too long. For names of Kubernetes, which need no escapes.
pub(crate) fn append_wire(text: &str, out: &mut Vec<u8>) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.is_empty()
        || text.split('.').all(|label| {
            let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
            out.push(length);
            out.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
            (1..=63).contains(&length)
        })
}
