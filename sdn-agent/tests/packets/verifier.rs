//! How much work each program gives the verifier. Its limit is a million instructions on all paths together; ours is lower, so that
//! a kernel with a less patient verifier takes them too.

use serde_json::json;

use crate::harness::*;

/// Instructions walked through on all paths of one program.
const BUDGET: u32 = 250_000;

#[test]
fn programs_stay_within_the_verifiers_patience() {
    sandbox::sandbox(|_| {
        let mut bench = Bench::load(&Setup { record: false, ..Setup::default() });
        for (name, info) in bench.programs() {
            let verified = info.verified_instruction_count().expect("a kernel that tells, 5.16 or later");
            // A line of this form is read by `cargo xtask test`.
            let report = json!({
                "name": name,
                "id": info.id(),
                "verifiedInstructions": verified,
                "translatedBytes": info.size_translated(),
                "jitedBytes": info.size_jitted(),
            });
            println!("program: {report}");
            assert!(
                (1..BUDGET).contains(&verified),
                "{name}: {verified} instructions verified, the budget is {BUDGET}"
            );
        }
    });
}
