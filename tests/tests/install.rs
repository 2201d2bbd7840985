//! What the agent does for a container runtime and for a person who comes late: the plugin installed, pods asked for while no agent
//! runs, an agent on a node of many pods.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use sdn_lab::survey;
use sdn_lab::{Lab, PodSpec};

#[test]
fn the_installed_plugin_connects_pods() -> Result<()> {
    let plugin = "/opt/cni/bin/sdn-cni";
    let lab = Lab::builder("install-plugin").nodes(1).agent_argument("--install-cni").plugin_program(plugin);
    let lab = ["a", "b"].into_iter().fold(lab, |lab, name| lab.pod(PodSpec::new(name).tcp(80))).start()?;
    let node = lab.node("node-1")?;
    let list: serde_json::Value =
        serde_json::from_str(&node.read_file(Path::new("/etc/cni/net.d/10-culvert.conflist"))?)?;
    assert_eq!(list["plugins"][0]["type"], "sdn-cni", "{list}");
    assert!(!Path::new(plugin).exists(), "it is on the node, not on the machine");
    assert_eq!(survey::survey(&lab, |_, _| ())?.faults(), Vec::<String>::new());
    Ok(())
}

#[test]
fn pods_asked_for_while_no_agent_runs_come_up_with_it() -> Result<()> {
    let lab = Lab::builder("install-late").nodes(2).pod(PodSpec::new("early").on("node-2").tcp(80)).start()?;
    let agent = lab.node("node-1")?.agent();
    agent.stop()?;
    thread::scope(|scope| {
        let late = scope.spawn(|| lab.add_pod(PodSpec::new("late").on("node-1").tcp(80)));
        thread::sleep(Duration::from_secs(1));
        assert!(!lab.pod("late")?.is_ready(), "nobody can connect it");
        agent.start()?;
        late.join().expect("adding a pod does not panic").map(drop)
    })?;
    agent.wait_ready(Duration::from_secs(30))?;
    assert_eq!(survey::survey(&lab, |_, _| ())?.faults(), Vec::<String>::new());
    Ok(())
}
