//! The maps of one loaded object, as bytes: read many entries a call, whatever their types.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData};
use aya::{Ebpf, Pod};
use sdn_agent::kernel::bpf::raw::{Cursor, RawMap, Update, bytes_of, read};
use sdn_common::Counter;
use sdn_common::maps::{MAPS, MapKind};

/// Entries that are read by one call.
const CHUNK: u32 = 256;

/// Every map that can be read, by its name in the contract.
pub struct Maps(BTreeMap<&'static str, RawMap>);

impl Maps {
    /// Takes the maps from the object. Its programs, once loaded, have their own hold on them.
    pub fn take(object: &mut Ebpf) -> Self {
        let readable = MAPS.iter().filter(|spec| spec.kind != MapKind::RingBuf);
        let open = readable.map(|spec| {
            let map = object.take_map(spec.name).unwrap_or_else(|| panic!("no map {} in the object", spec.name));
            (spec.name, RawMap::from_data(data(map)).expect("what the kernel says of a map"))
        });
        Self(open.collect())
    }

    fn map(&self, name: &str) -> &RawMap {
        self.0.get(name).unwrap_or_else(|| panic!("the contract has no map {name}"))
    }

    pub fn put<V: Pod>(&self, map: &str, key: &[u8], value: &V) {
        self.map(map).update(key, bytes_of(value), Update::Any).unwrap_or_else(|error| panic!("write {map}: {error}"));
    }

    /// The same value for each CPU.
    pub fn put_per_cpu<V: Pod>(&self, map: &str, key: &[u8], value: &V) {
        let raw = self.map(map);
        assert_eq!(size_of::<V>() % 8, 0, "values of CPUs are padded to 8 bytes each");
        let values = bytes_of(value).repeat(raw.stride() / size_of::<V>());
        raw.update(key, &values, Update::Any).unwrap_or_else(|error| panic!("write {map}: {error}"));
    }

    pub fn get<V: Pod>(&self, map: &str, key: &[u8]) -> Option<V> {
        self.values(map, key).into_iter().next()
    }

    /// A per-CPU map's values; of another map, the one that it has.
    pub fn values<V: Pod>(&self, map: &str, key: &[u8]) -> Vec<V> {
        let bytes = self.map(map).lookup(key).unwrap_or_else(|error| panic!("read {map}: {error}"));
        bytes.iter().flat_map(|bytes| bytes.chunks_exact(size_of::<V>()).map(read::<V>)).collect()
    }

    pub fn remove(&self, map: &str, key: &[u8]) {
        let removed = self.map(map).delete(key).unwrap_or_else(|error| panic!("remove from {map}: {error}"));
        assert!(removed, "{map} has no such entry");
    }

    pub fn entries<K: Pod, V: Pod>(&self, map: &str) -> Vec<(K, V)> {
        self.collect(map, |key, value| (read(key), read(value)))
    }

    /// Counters, summed over the CPUs.
    pub fn sums<K: Pod>(&self, map: &str) -> Vec<(K, Counter)> {
        self.collect(map, |key, values| {
            let counters = values.chunks_exact(size_of::<Counter>()).map(read::<Counter>);
            let sum = counters.fold(Counter::default(), |sum, one| Counter {
                packets: sum.packets + one.packets,
                bytes: sum.bytes + one.bytes,
            });
            (read(key), sum)
        })
    }

    pub fn len(&self, map: &str) -> usize {
        self.collect(map, |_, _| ()).len()
    }

    pub fn clear(&self, map: &str) {
        for key in self.collect(map, |key, _| key.to_vec()) {
            self.remove(map, &key);
        }
    }

    fn collect<T>(&self, map: &str, entry: impl Fn(&[u8], &[u8]) -> T) -> Vec<T> {
        let (mut cursor, mut entries) = (Cursor::default(), Vec::new());
        while !cursor.ended() {
            let batch =
                self.map(map).next_batch(&mut cursor, CHUNK).unwrap_or_else(|error| panic!("read {map}: {error}"));
            entries.extend(batch.iter().map(|(key, value)| entry(key, value)));
        }
        entries
    }
}

fn data(map: Map) -> MapData {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data) => data,
        other => panic!("the contract has no map of this kind: {other:?}"),
    }
}
