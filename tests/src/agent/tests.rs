use super::*;
use crate::cgroup::Cgroup;
use crate::events::Interrupt;
use crate::sandbox::Namespace;

/// A keeper whose child is its role, as shells are; what it says goes to the agent's log.
const KEEPER: &str = "echo keeper $$; sleep 600 & wait";

/// A keeper which takes over: the older one, whose process id is in $OLD, ends.
const SUCCESSOR: &str = "echo successor; kill $OLD; sleep 600 & wait";

struct Setting {
    agent: Agent,
    cgroup: Cgroup,
    directory: tempfile::TempDir,
}

fn setting(name: &str, script: &str) -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let cgroup = Cgroup::at(Path::new(&format!("culvert-lab-test-{name}"))).unwrap();
    cgroup.create().unwrap();
    let events = Events::begin(&directory.path().join("events"), None, Interrupt::default()).unwrap();
    let sandbox = crate::sandbox::Sandbox::from(Namespace::new_net().unwrap()).in_cgroup(cgroup.clone());
    let command =
        AgentCommand { program: "sh".into(), arguments: vec!["-c".into(), script.into()], environment: vec![] };
    let agent = Agent::new("node-1", sandbox, directory.path().join("log"), command, Arc::new(events));
    agent.start().unwrap();
    poll("the role runs", || agent.role().is_some());
    Setting { agent, cgroup, directory }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.agent.set_restart(false);
        self.cgroup.kill().and_then(|()| self.cgroup.remove()).unwrap();
    }
}

fn poll(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_keeper_that_is_killed_is_started_again() {
    let Setting { agent, .. } = &setting("restart", KEEPER);
    for restarts in 1..=2 {
        let killed = agent.kill_keeper().unwrap();
        poll("another keeper runs", || agent.keeper().is_some_and(|pid| pid != killed));
        assert_eq!(agent.restarts(), restarts);
    }
    agent.set_restart(false);
    agent.kill_keeper().unwrap();
    poll("no keeper runs", || agent.keeper().is_none());
    thread::sleep(Duration::from_millis(300));
    assert_eq!((agent.keeper(), agent.restarts()), (None, 2));
    assert!(agent.kill_keeper().unwrap_err().to_string().contains("does not run"));
}

#[test]
fn the_role_is_the_keepers_child() {
    let Setting { agent, .. } = &setting("role", "while :; do sleep 600; done");
    let first = agent.kill_role().unwrap();
    poll("the keeper starts another role", || agent.role().is_some_and(|pid| pid != first));
    assert_eq!(agent.restarts(), 0);
}

#[test]
fn stop_asks_and_does_not_start_again() {
    let Setting { agent, .. } = &setting("stop", KEEPER);
    agent.stop().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!((agent.keeper(), agent.restarts()), (None, 0));
    assert!(agent.last_words().starts_with("keeper "), "{}", agent.last_words());
    agent.start().unwrap();
    assert!(agent.keeper().is_some());
}

#[test]
fn a_successor_takes_over_and_one_that_fails_changes_nothing() {
    let Setting { agent, directory, .. } = &setting("replace", KEEPER);
    let old = agent.keeper().unwrap();
    let refused = agent.replace(Path::new("/bin/false")).unwrap_err();
    assert!(refused.to_string().contains("did not take over"), "{refused}");
    assert_eq!(agent.keeper(), Some(old), "the old one goes on");
    let program = directory.path().join("successor");
    std::fs::write(&program, format!("#!/bin/sh\nOLD={old}\n{SUCCESSOR}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    agent.replace(&program).unwrap();
    let new = agent.keeper().unwrap();
    assert_ne!(new, old);
    assert_eq!(agent.restarts(), 0, "a hand-over is no restart");
}
