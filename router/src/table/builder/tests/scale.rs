//! What a change costs at ten thousand routes. Printed, not held to: run with `--ignored --nocapture`, optimised.

use super::*;
use std::time::{Duration, Instant};

const ROUTES: usize = 10_000;

fn world(routes: usize, host: impl Fn(usize) -> String, path: impl Fn(usize) -> String) -> World {
    let mut world = World::new(Settings::default());
    for index in 0..routes {
        let service = format!("web-{index}");
        world.put(slice(&service, &["10.128.0.2", "10.128.0.3"]));
        let spec = json!({"path": path(index), "to": {"name": service}});
        world.put(route(&format!("r{index}"), &host(index), (index % 1_000) as u32, spec));
    }
    world
}

/// The median and the largest time of an update after each change.
fn timed(world: &mut World, change: impl Fn(&mut World, usize)) -> (Duration, Duration) {
    let mut times: Vec<_> = (0..200)
        .map(|round| {
            change(world, round);
            let begin = Instant::now();
            world.update();
            begin.elapsed()
        })
        .collect();
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

#[test]
#[ignore = "measures; the numbers are for people"]
fn one_change_among_ten_thousand_routes() {
    let hosts = |index: usize| format!("h{index}.apps.example.com");
    let layouts: [(&str, World); 2] = [
        ("a host each", world(ROUTES, hosts, |_| String::new())),
        ("one host", world(ROUTES, |_| "one.example.com".to_owned(), |index| format!("/p{index}"))),
    ];
    for (layout, mut world) in layouts {
        let begin = Instant::now();
        world.update();
        println!("{layout}: {ROUTES} routes at once in {:?}", begin.elapsed());
        assert_eq!(world.table.backends().count(), ROUTES);
        let one_host = layout == "one host";
        let (host, path) = if one_host { ("one.example.com".to_owned(), "/p7") } else { (hosts(7), "") };
        let endpoints = timed(&mut world, |world, round| {
            world.put(slice("web-7", &["10.128.0.2", "10.128.0.3", "10.128.0.4"][..1 + round % 3]));
        });
        println!("{layout}: endpoints of one route: median {:?}, most {:?}", endpoints.0, endpoints.1);
        let changed = timed(&mut world, |world, round| {
            let spec = json!({"path": path, "to": {"name": format!("web-{round}")}});
            world.put(route("r7", &host, 7, spec));
        });
        println!("{layout}: one route changed: median {:?}, most {:?}", changed.0, changed.1);
        let added = timed(&mut world, |world, round| {
            let host = if one_host { host.clone() } else { format!("new{round}.apps.example.com") };
            world.put(route(&format!("new{round}"), &host, 999, json!({"path": format!("/new{round}")})));
        });
        println!("{layout}: one route added: median {:?}, most {:?}", added.0, added.1);
        let (begin, mut found) = (Instant::now(), 0_usize);
        for index in 0..ROUTES {
            let (host, path) =
                if one_host { (host.clone(), format!("/p{index}/x")) } else { (hosts(index), "/x".to_owned()) };
            found += usize::from(world.table.route(&host, &path, false).is_some());
        }
        assert_eq!(found, ROUTES);
        println!("{layout}: a look-up with its strings: {:?}", begin.elapsed() / ROUTES as u32);
    }
}

#[test]
#[ignore = "measures; the numbers are for people"]
fn a_look_up_costs_the_same_at_any_number_of_routes() {
    for count in [1, 100, 1_000, 10_000] {
        let mut world = world(count, |index| format!("h{index}.apps.example.com"), |_| "/app".to_owned());
        world.update();
        let names: Vec<_> = (0..1_000)
            .map(|index| (format!("h{}.apps.example.com", index * 7919 % count), format!("/app/{index}/x")))
            .collect();
        let mut times: Vec<_> = (0..50)
            .map(|_| {
                let begin = Instant::now();
                let found = names.iter().filter(|(host, path)| world.table.route(host, path, false).is_some()).count();
                assert_eq!(found, names.len());
                begin.elapsed() / names.len() as u32
            })
            .collect();
        times.sort();
        println!("{count} routes: {:?} a look-up", times[times.len() / 2]);
    }
}
