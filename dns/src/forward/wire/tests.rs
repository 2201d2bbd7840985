use super::*;

#[test]
fn plain_names_end_where_their_root_is() {
    for (bytes, end) in [
        (&b"\0"[..], Some(1)),
        (b"\x03foo\0", Some(5)),
        (b"\x03foo\x03bar\0tail", Some(9)),
        (b"\x03foo", None),
        (b"\x03fo", None),
        (b"\x40aaaa", None),
        (b"\xc0\x0c", None),
        (b"", None),
    ] {
        assert_eq!(plain_name_end(bytes, 0), end, "{bytes:?}");
    }
    let longest: Vec<u8> = [vec![63; 64], vec![63; 64], vec![63; 64], vec![61; 62], vec![0]].concat();
    assert_eq!(plain_name_end(&longest, 0), Some(255));
    let too_long: Vec<u8> = [vec![63; 64], vec![63; 64], vec![63; 64], vec![62; 63], vec![0]].concat();
    assert_eq!(plain_name_end(&too_long, 0), None);
}

#[test]
fn pointers_lead_back_or_nowhere() {
    let header = [0; HEADER];
    for (tail, end) in [
        // A name, and a pointer to it.
        (&b"\x03foo\0\xc0\x0c"[..], Some(HEADER + 7)),
        // Labels, then a pointer.
        (b"\x03foo\0\x01a\xc0\x0c", Some(HEADER + 9)),
    ] {
        let message = [&header[..], tail].concat();
        assert_eq!(name_end(&message, HEADER + 5), end, "{tail:?}");
    }
    for (what, tail) in [
        ("to itself", &b"\xc0\x0c"[..]),
        ("ahead", b"\xc0\x0e\0"),
        ("into the header", b"\xc0\x04"),
        ("to the labels before it, which lead to it", b"\x01a\xc0\x0c"),
        ("cut", b"\xc0"),
        ("a reserved kind of label", b"\x80\0"),
    ] {
        let message = [&header[..], tail].concat();
        assert_eq!(name_end(&message, HEADER), None, "{what}");
    }
}

#[test]
fn a_name_that_grows_too_long_by_pointers_is_none() {
    let mut message = vec![0; HEADER];
    let mut target = message.len();
    message.extend(b"\x3f");
    message.extend([b'a'; 63]);
    message.push(0);
    for round in 0..4 {
        let start = message.len();
        message.extend(b"\x3f");
        message.extend([b'b'; 63]);
        message.extend((0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
        target = start;
        // 64 bytes each, and the root: three fit.
        assert_eq!(name_end(&message, start).is_some(), round < 2, "round {round}");
    }
}

#[test]
fn names_in_data_must_fill_it() {
    let mut message = vec![0; HEADER];
    message.extend(b"\x01a\0");
    let start = message.len();
    // CNAME, IN, TTL 60, 2 bytes: a pointer.
    message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x0c");
    let found = record(&message, start).unwrap();
    assert_eq!((found.rtype, found.class, found.ttl, found.end), (5, CLASS_IN, 60, message.len()));

    let length = start + 11;
    message[length] = 3;
    message.push(0);
    assert_eq!(record(&message, start), None, "a byte after the name");
    message[length] = 9;
    assert_eq!(record(&message, start), None, "more data than there is");
}
