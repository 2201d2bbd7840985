use super::*;
use crate::family::Family;
use crate::peers::Peers;

/// Streams of all carriers for a while, with something done in the middle.
fn run(middle: impl FnOnce(&Peers)) -> Vec<Report> {
    let peers = Peers::new(Family::Dual, 1500).unwrap();
    let (one, two) = (peers.add_pod(0).unwrap(), peers.add_pod(1).unwrap());
    let streams: Vec<_> = two
        .addresses()
        .iter()
        .flat_map(|target| [Carrier::Tcp, Carrier::Udp, Carrier::Ping].map(|carrier| (carrier, *target)))
        .map(|(carrier, target)| Stream::start(carrier, one.sandbox(), two.sandbox(), target, 500).unwrap())
        .collect();
    thread::sleep(Duration::from_millis(500));
    middle(&peers);
    thread::sleep(Duration::from_millis(500));
    Stream::finish_all(streams)
}

#[test]
fn an_undisturbed_stream_is_whole() {
    for report in run(|_| ()) {
        assert!(report.is_whole() && report.sent > 300 && report.repeated == 0, "{report}");
    }
}

#[test]
fn what_a_cut_cable_loses_is_counted() {
    let cut = |peers: &Peers| {
        for state in ["down", "up"] {
            let ip = ["link", "set", "vxlan0", state];
            assert!(peers.node(0).output(std::process::Command::new("ip").args(ip)).unwrap().status.success());
            thread::sleep(Duration::from_millis(200));
        }
    };
    for report in run(cut) {
        match report.carrier {
            // TCP repeats what is lost.
            Carrier::Tcp => assert!(report.is_whole() && report.longest_silence.as_millis() >= 200, "{report}"),
            _ => assert!(report.lost() >= 50 && report.echoed > 50, "{report}"),
        }
    }
}
