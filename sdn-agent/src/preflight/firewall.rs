//! What firewall rules mean for a node, read from what `nft list ruleset` and `iptables-save` print.

/// What some rules mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Firewall {
    /// Chains that drop what is forwarded unless a rule says otherwise.
    pub(super) forward_drops: Vec<String>,
    /// Chains that drop what comes to the node unless a rule says otherwise.
    pub(super) input_drops: Vec<String>,
    /// Chains and tables of kube-proxy.
    pub(super) kube_proxy: Vec<String>,
    /// Rules that name the tunnel's port.
    pub(super) names_port: bool,
}

impl Firewall {
    /// Reads each text. `port` is the tunnel's.
    pub(super) fn read(texts: &[String], port: u16) -> Self {
        let mut firewall = Self::default();
        for text in texts {
            let (mut table, mut chain) = (String::new(), String::new());
            for line in text.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix('*') {
                    table = name.to_owned();
                } else if let Some(declared) = line.strip_prefix(':') {
                    firewall.read_chain(&table, declared);
                } else if let Some(name) = line.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
                    table = name.to_owned();
                    firewall.note_kube_proxy(&table, &table);
                } else if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
                    chain = name.to_owned();
                    firewall.note_kube_proxy(&chain, &format!("{table} {chain}"));
                } else if line.starts_with("type filter hook") {
                    firewall.read_hook(&format!("{table} {chain}"), line);
                } else {
                    firewall.names_port |= names_port(line, port);
                }
            }
        }
        firewall
    }

    /// `FORWARD DROP [0:0]` of iptables-save.
    fn read_chain(&mut self, table: &str, declared: &str) {
        let mut words = declared.split_whitespace();
        let (Some(name), Some(policy)) = (words.next(), words.next()) else { return };
        self.note_kube_proxy(name, &format!("{table} {name}"));
        match (table, name, policy) {
            ("filter", "FORWARD", "DROP") => self.forward_drops.push("iptables filter FORWARD".to_owned()),
            ("filter", "INPUT", "DROP") => self.input_drops.push("iptables filter INPUT".to_owned()),
            _ => {}
        }
    }

    /// `type filter hook forward priority filter; policy drop;` of nft.
    fn read_hook(&mut self, chain: &str, line: &str) {
        if !line.contains("policy drop") {
            return;
        }
        if line.contains("hook forward") {
            self.forward_drops.push(format!("nft {chain}"));
        } else if line.contains("hook input") {
            self.input_drops.push(format!("nft {chain}"));
        }
    }

    fn note_kube_proxy(&mut self, name: &str, whole: &str) {
        // Kubelet makes these two itself, also where there is no kube-proxy.
        let kubelets = ["KUBE-FIREWALL", "KUBE-KUBELET-CANARY"].contains(&name);
        let proxys = name.starts_with("KUBE-") || name.split(' ').next_back() == Some("kube-proxy");
        if proxys && !kubelets {
            self.kube_proxy.push(whole.to_owned());
        }
    }
}

/// Whether a rule has the port as a word of its own.
fn names_port(line: &str, port: u16) -> bool {
    let is_rule = line.starts_with("-A ") || line.contains("dport");
    is_rule && line.split(|c: char| !c.is_ascii_digit()).any(|number| number == port.to_string())
}
