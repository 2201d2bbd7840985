use super::*;

fn verbose(release: &str, llvm: &str) -> String {
    format!("rustc {release} (x 2026-01-01)\nbinary: rustc\nrelease: {release}\nLLVM version: {llvm}\n")
}

#[test]
fn a_compiler_is_young_enough_and_its_llvm_old_enough() {
    let rows = [
        ("1.96.0", "22.1.8", None),
        ("1.95.0", "21.1.0", None),
        ("1.97.0-nightly", "22.1.4", None),
        ("1.94.1", "22.1.0", Some("older than 1.95")),
        ("1.99.0-nightly", "23.1.0", Some("newer than the 22")),
        ("unknown", "22.1.0", Some("older")),
    ];
    for (release, llvm, expected) in rows {
        let found = acceptable_version(&verbose(release, llvm));
        match expected {
            None => assert_eq!(found, Ok(format!("rustc {release} (x 2026-01-01)"))),
            Some(reason) => assert!(found.as_ref().is_err_and(|text| text.contains(reason)), "{release}: {found:?}"),
        }
    }
    assert!(acceptable_version("rustc 1.96.0").is_err_and(|text| text.contains("release")));
}

#[test]
fn versions_are_read_up_to_the_minor() {
    let rows = [
        ("0.13.0", Some((0, 13))),
        ("0.13", Some((0, 13))),
        ("22.1.8", Some((22, 1))),
        ("1.97.0-nightly", Some((1, 97))),
        ("1.97-nightly", Some((1, 97))),
        ("x", None),
        ("7", None),
    ];
    for (text, expected) in rows {
        assert_eq!(major_minor(text), expected, "{text}");
    }
}

#[test]
fn only_the_outer_builds_variables_are_kept_from_the_inner_one() {
    let outer = [
        "CARGO",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_FEATURE_EBPF_LOG",
        "CARGO_PROFILE_RELEASE_LTO",
        "CARGO_TARGET_DIR",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    let everyones = [
        "CARGO_HOME",
        "CARGO_HTTP_CAINFO",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_OFFLINE",
        "CARGO_REGISTRIES_MIRROR_INDEX",
        "CARGO_TERM_COLOR",
        "HOME",
        "PATH",
        "RUSTUP_HOME",
        "https_proxy",
    ];
    assert!(outer.iter().all(|name| is_of_outer_build(OsStr::new(name))));
    for name in everyones {
        assert!(!is_of_outer_build(OsStr::new(name)), "{name}");
    }
}

#[test]
fn the_inner_build_gets_this_toolchain_and_our_flags() {
    let compiler = Compiler {
        cargo: "/c/cargo".into(),
        rustc: "/c/rustc".into(),
        version: "rustc 1.97.0".into(),
        core: Core::FromSource,
    };
    let toolchain =
        Toolchain { compiler, linker: Linker { path: "/l/bpf-linker".into(), version: "bpf-linker 0.13.0".into() } };
    let command = toolchain.cargo(&toolchain.compiler.cargo, "build", "aarch64");
    let arguments: Vec<_> = command.get_args().collect();
    assert_eq!(arguments, ["build", "--target", TARGET, "-Zbuild-std=core"]);
    let variable = |name: &str| command.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
    assert_eq!(variable("RUSTC"), Some(OsStr::new("/c/rustc")));
    assert_eq!(variable("RUSTC_BOOTSTRAP"), Some(OsStr::new("1")));
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").expect("flags are set").to_string_lossy().into_owned();
    assert!(flags.contains("bpf_target_arch=\"aarch64\"") && flags.contains("-Clinker=/l/bpf-linker"), "{flags}");
}

#[test]
fn what_is_missing_says_what_was_found_instead() {
    let missing = Missing::Compiler(vec!["a: too old".into(), "b: no core".into()]);
    assert_eq!(missing.to_string(), "no compiler for eBPF (a: too old; b: no core)");
    let missing = Missing::Linker("it is not installed".into());
    assert_eq!(missing.to_string(), "no bpf-linker 0.13 (it is not installed)");
}
