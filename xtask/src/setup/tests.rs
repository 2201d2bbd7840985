use std::path::PathBuf;

use super::*;
use crate::toolchain::Core;

fn complete() -> Findings {
    let compiler = Compiler {
        cargo: PathBuf::from("/usr/bin/cargo"),
        rustc: PathBuf::from("/usr/bin/rustc"),
        version: "rustc 1.96.0".into(),
        core: Core::Precompiled,
    };
    let linker = Linker { path: PathBuf::from("/bin/bpf-linker"), version: "bpf-linker 0.13.0".into() };
    Findings { compiler: Ok(compiler), linker: Ok(linker), llvm: true, no_clippy: false, absent: Vec::new() }
}

fn names(wants: &[Want]) -> Vec<String> {
    let name = |want: &Want| match want {
        Want::Package { name, .. } => name.clone(),
        Want::Linker { .. } => "(bpf-linker)".into(),
    };
    wants.iter().map(name).collect()
}

#[test]
fn a_complete_machine_wants_nothing() {
    assert_eq!(complete().wants(), []);
}

#[test]
fn each_absence_wants_just_what_fills_it() {
    let no_compiler = Err(Missing::Compiler(vec!["nothing here".into()]));
    let no_linker = || Err(Missing::Linker("not installed".into()));
    let ping = TOOLS.iter().find(|tool| tool.command == "ping").expect("ping is in the list");
    let rows = [
        (Findings { compiler: no_compiler, ..complete() }, vec!["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"]),
        (Findings { linker: no_linker(), ..complete() }, vec!["(bpf-linker)"]),
        (Findings { linker: no_linker(), llvm: false, ..complete() }, vec!["llvm-22-dev", "(bpf-linker)"]),
        // Only compiling bpf-linker needs LLVM's development files.
        (Findings { llvm: false, ..complete() }, vec![]),
        (Findings { no_clippy: true, ..complete() }, vec!["rust-web-clippy"]),
        (Findings { absent: vec![ping], ..complete() }, vec!["iputils-ping"]),
    ];
    for (findings, expected) in rows {
        assert_eq!(names(&findings.wants()), expected);
    }
}

#[test]
fn a_want_says_why() {
    let findings = Findings { linker: Err(Missing::Linker("x is bpf-linker 0.9.1, not 0.13".into())), ..complete() };
    let text = findings.wants()[0].to_string();
    assert!(text.contains("links the eBPF programs") && text.contains("0.9.1"), "{text}");
}

#[test]
fn what_is_missing_after_installing_is_named_with_the_way_by_hand() {
    assert!(install::explain_leftovers(&[]).is_ok());
    let wants = [Want::Package { name: "rustc-web".into(), reason: "its LLVM 23 is newer".into() }];
    let message = install::explain_leftovers(&wants).expect_err("something is missing").to_string();
    assert!(message.contains("its LLVM 23 is newer") && message.contains("rustup toolchain install"), "{message}");
}
