//! One line for each thing that the agent would write, and for what it would look at.

use std::net::IpAddr;

use aya::Pod;
use sdn_agent::kernel::bpf::raw::bytes_of;
use sdn_common::{
    Addr4, Addr6, Address, Be16, Endpoint, Flow, FlowKey, Identity, Masquerade, MasqueradeKey, Node, NodeState, Rule,
    RuleKey, SetRef, Side, Way,
};

use super::bench::Bench;
use super::packet::Packet;
use super::world::{Actor, Family, mapped};

/// In which table a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Unanswered,
    Answered,
}

/// An address as maps have it.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A map of the address's family.
fn of(map: &str, address: IpAddr) -> String {
    format!("{map}_V{}", if address.is_ipv6() { 6 } else { 4 })
}

/// The world.
impl Bench {
    pub fn state(&self) -> NodeState {
        self.maps.get("NODE_STATE", &[0; 4]).expect("an array's entry")
    }

    pub fn set_state(&mut self, state: NodeState) {
        self.maps.put("NODE_STATE", &[0; 4], &state);
    }

    /// Changes the node's settings.
    pub fn change_state(&mut self, change: impl FnOnce(&mut NodeState)) {
        let mut state = self.state();
        change(&mut state);
        self.set_state(state);
    }

    pub fn set_endpoint(&mut self, pod: Actor, flags: u32) {
        let endpoint = Endpoint { flags, ..pod.endpoint() };
        self.maps.put(&of("ENDPOINTS", pod.address), &octets(pod.address), &endpoint);
    }

    pub fn remove_endpoint(&mut self, pod: Actor) {
        self.maps.remove(&of("ENDPOINTS", pod.address), &octets(pod.address));
    }

    pub fn set_peer(&mut self, peer: Actor) {
        self.maps.put(&of("PEERS", peer.address), &octets(peer.address), &peer.peer());
    }

    pub fn remove_peer(&mut self, peer: Actor) {
        self.maps.remove(&of("PEERS", peer.address), &octets(peer.address));
    }

    /// A node and its end of the tunnel.
    pub fn set_node(&mut self, index: u32, tunnel: IpAddr) {
        let family = if tunnel.is_ipv6() { Node::TUNNEL_V6 } else { 0 };
        let node = Node { tunnel: mapped(tunnel), flags: Node::VALID | family };
        self.maps.put("NODES", &index.to_ne_bytes(), &node);
        self.maps.put("TUNNELS", bytes_of(&node.tunnel), &index);
    }

    /// The node's index stands for nothing.
    pub fn clear_node(&mut self, index: u32) {
        self.maps.put("NODES", &index.to_ne_bytes(), &Node::default());
    }

    /// No node has this end of a tunnel.
    pub fn remove_tunnel(&mut self, tunnel: IpAddr) {
        self.maps.remove("TUNNELS", bytes_of(&mapped(tunnel)));
    }

    pub fn set_subnet(&mut self, within: IpAddr, node: u32) {
        self.maps.put(&of("SUBNETS", within), &subnet_key(within), &node);
    }

    pub fn remove_subnet(&mut self, within: IpAddr) {
        self.maps.remove(&of("SUBNETS", within), &subnet_key(within));
    }

    /// The pod has these sets.
    pub fn set_filters(&mut self, pod: Actor, egress: SetRef, ingress: SetRef) {
        let endpoint = Endpoint { egress, ingress, ..pod.endpoint() };
        self.maps.put(&of("ENDPOINTS", pod.address), &octets(pod.address), &endpoint);
    }

    /// An entry of a set.
    pub fn put_rule(&mut self, key: &RuleKey, rule: &Rule) {
        self.maps.put("POLICY_RULES", bytes_of(key), rule);
    }

    /// What policies know the addresses around this one by.
    pub fn set_cidr(&mut self, within: IpAddr, prefix: u32, identity: Identity) {
        let key = [&prefix.to_ne_bytes()[..], &octets(within)].concat();
        self.maps.put(&of("CIDRS", within), &key, &identity);
    }

    /// Cluster DNS is asked at this address.
    pub fn set_resolver(&mut self, resolver: IpAddr) {
        self.change_state(|state| match resolver {
            IpAddr::V4(resolver) => state.v4.resolver = Addr4::new(resolver.octets()),
            IpAddr::V6(resolver) => state.v6.resolver = Addr6::new(resolver.octets()),
        });
    }

    /// When the node's resolver was last known to live, in nanoseconds of the monotonic clock.
    pub fn set_heartbeat(&mut self, nanoseconds: u64) {
        self.maps.put("HEARTBEAT", &[0; 4], &nanoseconds);
    }

    /// Nobody is there.
    pub fn empty_world(&mut self) {
        for map in
            ["ENDPOINTS_V4", "ENDPOINTS_V6", "PEERS_V4", "PEERS_V6", "TUNNELS", "POLICY_RULES", "CIDRS_V4", "CIDRS_V6"]
        {
            self.maps.clear(map);
        }
        [2, 3, 6].into_iter().for_each(|node| self.clear_node(node));
    }
}

/// A host subnet: its prefix and an address in it.
fn subnet_key(within: IpAddr) -> Vec<u8> {
    let prefix: u32 = if within.is_ipv6() { 64 } else { 23 };
    [&prefix.to_ne_bytes()[..], &octets(within)].concat()
}

/// Flows and ports.
impl Bench {
    /// The flow of a packet, and which end the packet's sender is.
    pub fn flow(&self, packet: &Packet) -> Option<(Table, Flow, Way)> {
        let (from_port, to_port) = packet.flow_ports();
        let (from_port, to_port) = (Be16::new(from_port), Be16::new(to_port));
        let (key, way) = match (packet.source, packet.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [from, to] = [from, to].map(|address| Addr4::new(address.octets()));
                let (key, way) = FlowKey::new((from, from_port), (to, to_port), packet.protocol());
                (bytes_of(&key).to_vec(), way)
            }
            _ => {
                let (from, to) = (mapped(packet.source), mapped(packet.destination));
                let (key, way) = FlowKey::new((from, from_port), (to, to_port), packet.protocol());
                (bytes_of(&key).to_vec(), way)
            }
        };
        let found = |map: &str, table: Table| Some((table, self.maps.get::<Flow>(&of(map, packet.source), &key)?, way));
        let (first, second) = (found("FLOWS", Table::Answered), found("NEW_FLOWS", Table::Unanswered));
        assert!(first.is_none() || second.is_none(), "a flow is in one table only: {first:?} {second:?}");
        first.or(second)
    }

    /// Both ends of a packet's flow as it remembers them: the sender's, the receiver's.
    pub fn flow_sides(&self, packet: &Packet) -> Option<(Side, Side)> {
        let (_, flow, way) = self.flow(packet)?;
        let [low, high] = flow.sides;
        Some(if way == Way::FromLow { (low, high) } else { (high, low) })
    }

    /// The flow of a packet in words, from the view of its sender: `none`, `unanswered`, `answered, fin sent, reset`.
    pub fn describe_flow(&self, packet: &Packet) -> String {
        let Some((table, flow, way)) = self.flow(packet) else {
            return "none".to_owned();
        };
        let (sent, received) = match way {
            Way::FromLow => (Flow::FIN_FROM_LOW, Flow::FIN_FROM_HIGH),
            Way::FromHigh => (Flow::FIN_FROM_HIGH, Flow::FIN_FROM_LOW),
        };
        let mut words = vec![if table == Table::Answered { "answered" } else { "unanswered" }];
        let states = [
            (flow.opened() != way, "opened by the other"),
            (table == Table::Answered && flow.state & Flow::REPLIED == 0, "not replied"),
            (table == Table::Unanswered && flow.state & Flow::REPLIED != 0, "replied"),
            (flow.state & Flow::MIDSTREAM != 0, "midstream"),
            (flow.state & sent != 0, "fin sent"),
            (flow.state & received != 0, "fin received"),
            (flow.state & Flow::RESET != 0, "reset"),
        ];
        words.extend(states.iter().filter_map(|(is, word)| is.then_some(*word)));
        words.join(", ")
    }

    /// Number of flows in a table.
    pub fn flows(&self, family: Family, table: Table) -> usize {
        let [answered, unanswered] = family.pick(["FLOWS_V4", "NEW_FLOWS_V4"], ["FLOWS_V6", "NEW_FLOWS_V6"]);
        self.maps.len(if table == Table::Answered { answered } else { unanswered })
    }

    /// Forgets all flows, but not their masquerade ports.
    pub fn forget_flows(&mut self) {
        ["FLOWS_V4", "FLOWS_V6", "NEW_FLOWS_V4", "NEW_FLOWS_V6"].iter().for_each(|map| self.maps.clear(map));
    }

    /// Gives all masquerade ports back.
    pub fn forget_ports(&mut self) {
        ["MASQUERADE_V4", "MASQUERADE_V6"].iter().for_each(|map| self.maps.clear(map));
    }

    /// Gives a masquerade port back, toward whatever destination it was used.
    pub fn free_port(&mut self, family: Family, port: u16) {
        let map = family.pick("MASQUERADE_V4", "MASQUERADE_V6");
        for (key, _) in self.keys_and_ports(family).into_iter().filter(|(_, taken)| *taken == port) {
            self.maps.remove(map, &key);
        }
    }

    /// Masquerade ports in use, sorted.
    pub fn ports(&self, family: Family) -> Vec<u16> {
        let mut ports: Vec<u16> = self.keys_and_ports(family).into_iter().map(|(_, port)| port).collect();
        ports.sort_unstable();
        ports
    }

    fn keys_and_ports(&self, family: Family) -> Vec<(Vec<u8>, u16)> {
        fn of<A: Address>(bench: &Bench, map: &str) -> Vec<(Vec<u8>, u16)>
        where
            MasqueradeKey<A>: Pod,
            Masquerade<A>: Pod,
        {
            let entries = bench.maps.entries::<MasqueradeKey<A>, Masquerade<A>>(map);
            entries.iter().map(|(key, _)| (bytes_of(key).to_vec(), key.local_port.native())).collect()
        }
        match family {
            Family::V4 => of::<Addr4>(self, "MASQUERADE_V4"),
            Family::V6 => of::<Addr6>(self, "MASQUERADE_V6"),
        }
    }
}
