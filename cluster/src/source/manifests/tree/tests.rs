use super::{
    super::{decode, document::Format},
    *,
};
use crate::model::Kind;

fn node(name: &str, zone: &str) -> String {
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n")
}

/// A tree, and what it should be as a text: the objects with their zones, then the problems.
#[derive(Default)]
struct Case(Tree);

impl Case {
    /// What putting a file changed: "+name=zone" and "-name".
    fn put(&mut self, file: &str, documents: &[String]) -> Vec<String> {
        let text = documents.join("---\n");
        let parsed = decode::parse(text.as_bytes(), Format::Yaml, &Kind::ALL.into(), file).expect("not too many");
        show(self.0.put(Path::new(file), parsed))
    }

    fn remove(&mut self, file: &str) -> Vec<String> {
        show(self.0.remove(Path::new(file)))
    }

    fn objects(&self) -> Vec<String> {
        show(self.0.objects().into_iter().map(ObjectChange::Put).collect())
    }

    fn problems(&self) -> Vec<String> {
        self.0.problems().iter().map(ToString::to_string).collect()
    }
}

fn show(changes: Vec<ObjectChange>) -> Vec<String> {
    let show = |change| match change {
        ObjectChange::Put(Object::Node(node)) => format!("+{}={}", node.name, node.zone.as_deref().unwrap_or_default()),
        ObjectChange::Put(object) => format!("+{}", object.key().name),
        ObjectChange::Delete(key) => format!("-{}", key.name),
    };
    changes.into_iter().map(show).collect()
}

#[test]
fn changes_are_told_and_nothing_else() {
    let mut case = Case::default();
    assert_eq!(case.put("a", &[node("n2", "x"), node("n1", "x")]), ["+n1=x", "+n2=x"]);
    assert_eq!(case.objects(), ["+n2=x", "+n1=x"], "in the order of lines");
    assert_eq!(case.put("a", &[node("n2", "x"), node("n1", "x")]), [""; 0]);
    assert_eq!(case.put("a", &[node("n1", "b"), node("n2", "x")]), ["+n1=b"]);
    assert_eq!(case.put("a", &[node("n3", "x")]), ["-n1", "-n2", "+n3=x"]);
    assert_eq!(case.remove("a"), ["-n3"]);
    assert_eq!(case.remove("a"), [""; 0]);
    assert_eq!((case.objects().len(), case.problems().len(), case.0.paths().count()), (0, 0, 0));
}

#[test]
fn the_first_of_two_counts() {
    let mut case = Case::default();
    assert_eq!(case.put("b", &[node("x", "second")]), ["+x=second"]);
    assert_eq!(case.put("a", &[node("x", "first"), node("x", "again")]), ["+x=first"]);
    let expected = [
        "a:5: Node x: already defined in line 1; that one counts",
        "b:1: Node x: already defined at a:1; that one counts",
    ];
    assert_eq!(case.problems(), expected);
    assert_eq!(case.objects(), ["+x=first"]);
    assert_eq!(case.put("c", &[node("x", "third")]), [""; 0]);
    assert_eq!(case.problems().len(), 3);
    assert_eq!(case.remove("a"), ["+x=second"]);
    assert_eq!(case.problems(), ["c:1: Node x: already defined at b:1; that one counts"]);
    assert_eq!(case.remove("c"), [""; 0]);
    assert_eq!(case.remove("b"), ["-x"]);
    assert_eq!(case.problems(), [""; 0]);
}

#[test]
fn what_turns_bad_stays_as_it_was() {
    let good = |name: &str| node(name, "x");
    let bad = node("n2", "'not a label!'");
    let broken = "apiVersion: [\n".to_owned();
    // what the file has first and then, what changes, what there is then, how many problems
    type Row<'a> = (Vec<String>, &'a [&'a str], &'a [&'a str], usize);
    let rows: Vec<Row> = vec![
        // the object that is bad can be told: it stays, and only it
        (vec![good("n1"), bad.clone(), good("n3")], &[], &["+n1=x", "+n2=x", "+n3=x"], 1),
        (vec![node("n1", "b"), bad.clone()], &["+n1=b", "-n3"], &["+n1=b", "+n2=x"], 1),
        // it cannot be told: all stay that are not there
        (vec![good("n1"), broken.clone()], &[], &["+n1=x", "+n2=x", "+n3=x"], 1),
        (vec![broken.clone()], &[], &["+n1=x", "+n2=x", "+n3=x"], 1),
        // a new one that is bad was never there
        (vec![good("n1"), good("n2"), good("n3"), node("N4", "x")], &[], &["+n1=x", "+n2=x", "+n3=x"], 1),
        // taken away is gone
        (vec![good("n1"), good("n3")], &["-n2"], &["+n1=x", "+n3=x"], 0),
        (vec![], &["-n1", "-n2", "-n3"], &[], 0),
    ];
    for (then, changes, objects, problems) in rows {
        let mut case = Case::default();
        case.put("a", &[good("n1"), good("n2"), good("n3")]);
        assert_eq!(
            (case.put("a", &then), case.problems().len()),
            (changes.iter().map(ToString::to_string).collect(), problems),
            "{then:?}"
        );
        let mut got = case.objects();
        got.sort();
        assert_eq!(got, objects, "{then:?}");
        // The problem stays while the document is bad, and goes with it.
        case.put("a", &then);
        assert_eq!(case.problems().len(), problems);
        case.put("a", &[good("n1"), good("n2"), good("n3")]);
        assert_eq!((case.objects().len(), case.problems().len()), (3, 0), "{then:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_stays_as_it_was() {
    let mut case = Case::default();
    case.put("a", &[node("n1", "x"), "{apiVersion: v1, kind: Widget}\n".to_owned()]);
    assert_eq!(show(case.0.fail(Path::new("a"), "cannot be read")), [""; 0]);
    assert_eq!((case.objects(), case.problems()), (vec!["+n1=x".to_owned()], vec!["a: cannot be read".to_owned()]));
    assert_eq!(case.0.unused().len(), 1);
    assert_eq!(case.remove("a"), ["-n1"]);
    assert_eq!((case.problems().len(), case.0.unused().len()), (0, 0));
}

#[test]
fn unused_kinds_are_listed_once_over_all_files() {
    let mut case = Case::default();
    let widget = "{apiVersion: v1, kind: Widget, metadata: {name: a}}\n".to_owned();
    case.put("b", std::slice::from_ref(&widget));
    case.put("a", &[node("n", "x"), widget.clone(), widget]);
    let unused = case.0.unused();
    let [one] = &unused[..] else { panic!("{unused:?}") };
    assert_eq!((one.kind.as_str(), one.count, one.file.as_path(), one.line), ("Widget", 3, Path::new("a"), 5));
    case.remove("a");
    assert_eq!(case.0.unused()[0].count, 1);
}
