use proptest::prelude::*;

use super::*;

const NONCE: [u8; 8] = *b"whoareyo";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

fn begun() -> Inbound {
    let mut inbound = Inbound::default();
    inbound.feed(&mut PREFACE.to_vec(), None).unwrap();
    inbound
}

fn feed(frames: &[Vec<u8>]) -> Result<Vec<u8>, FrameError> {
    let mut bytes = frames.concat();
    begun().feed(&mut bytes, None).map(|_| bytes)
}

#[test]
fn what_does_not_begin_as_http2_is_refused_at_its_first_wrong_byte() {
    let mut inbound = Inbound::default();
    assert_eq!(
        inbound.feed(&mut b"GET / HTTP/1.1\r\n".to_vec(), None),
        Err(FrameError::Preface)
    );
    for wrong in 0..PREFACE.len() {
        let mut bytes = PREFACE.to_vec();
        bytes[wrong] ^= 1;
        let mut inbound = Inbound::default();
        let verdicts: Vec<_> = bytes
            .iter()
            .map(|byte| inbound.feed(&mut [*byte], None))
            .collect();
        assert!(verdicts[..wrong].iter().all(Result::is_ok));
        assert_eq!(verdicts[wrong], Err(FrameError::Preface));
    }
}

#[test]
fn the_answer_is_found_at_every_split_and_shown_as_an_extension_where_it_is_whole() {
    let bytes = [
        frame(4, 0, 0, &[]),
        frame(PING, ACK, 0, &NONCE),
        frame(4, ACK, 0, &[]),
    ]
    .concat();
    for split in 0..=bytes.len() {
        let mut bytes = bytes.clone();
        let mut inbound = begun();
        let (first, second) = bytes.split_at_mut(split);
        let answers = [
            inbound.feed(first, Some(NONCE)).unwrap(),
            inbound.feed(second, Some(NONCE)).unwrap(),
        ];
        assert_eq!(
            answers.iter().filter(|&&answered| answered).count(),
            1,
            "split at {split}"
        );
        let whole = !(10..26).contains(&split);
        assert_eq!(
            bytes[9 + 3],
            if whole { IGNORED } else { PING },
            "split at {split}"
        );
    }
}

#[test]
fn no_other_frame_answers() {
    let mut other = NONCE;
    other[7] ^= 1;
    for bytes in [
        frame(PING, 0, 0, &NONCE),
        frame(PING, ACK, 0, &other),
        frame(PING, ACK, 0, &NONCE[..7]),
        frame(PING, ACK, 0, &[&NONCE[..], &[0]].concat()),
        frame(DATA, 0, 1, &frame(PING, ACK, 0, &NONCE)),
        frame(0xf0, 0, 0, &frame(PING, ACK, 0, &NONCE)),
    ] {
        let mut repaired = bytes.clone();
        assert_eq!(begun().feed(&mut repaired, Some(NONCE)), Ok(false));
        assert_eq!(repaired, bytes);
    }
    assert_eq!(
        begun().feed(&mut frame(PING, ACK, 0, &NONCE), None),
        Ok(false),
        "none is expected"
    );
}

#[test]
fn the_bytes_of_an_earlier_short_ping_are_no_part_of_an_answer() {
    let mut bytes = [frame(PING, ACK, 0, &NONCE[..4]), frame(PING, ACK, 0, &NONCE[4..])].concat();
    assert_eq!(begun().feed(&mut bytes, Some(NONCE)), Ok(false));
}

#[test]
fn half_a_header_is_not_taken_for_the_frame_before_it() {
    let mut inbound = begun();
    for byte in [frame(PING, 0, 0, &[0; 9]), frame(PING, ACK, 0, &NONCE)].concat() {
        inbound.feed(&mut [byte], Some(NONCE)).unwrap();
    }
}

#[test]
fn an_authority_is_repaired_over_frames_padding_and_priority() {
    let block = b"\x82\x41\x05%2Frx\x84";
    for cut in 0..=block.len() {
        let padded = [&[3, 0, 0, 0, 0, 9][..], &block[..cut], &[0x41, 1, 0x25]].concat();
        let first = frame(HEADERS, PADDED | PRIORITISED, 1, &padded);
        let second = frame(CONTINUATION, END_HEADERS, 1, &block[cut..]);
        let bytes = feed(&[first, second]).unwrap();
        let repaired = [&bytes[15..15 + cut], &bytes[9 + padded.len() + 9..]].concat();
        assert_eq!(repaired, b"\x82\x41\x05XXXXX\x84");
        assert_eq!(
            &bytes[15 + cut..18 + cut],
            &[0x41, 1, 0x25],
            "padding is not looked at"
        );
    }
}

#[test]
fn header_blocks_that_are_not_whole_are_refused() {
    let open = frame(HEADERS, 0, 1, &[0x82]);
    for (frames, error) in [
        (vec![open.clone(), frame(DATA, 0, 1, &[0])], FrameError::Block),
        (vec![open.clone(), frame(PING, 0, 0, &NONCE)], FrameError::Block),
        (
            vec![open.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])],
            FrameError::Block,
        ),
        (vec![open.clone(), open.clone()], FrameError::Block),
        (vec![frame(CONTINUATION, END_HEADERS, 1, &[])], FrameError::Block),
        (vec![frame(HEADERS, END_HEADERS, 0, &[0x82])], FrameError::Block),
        (
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])],
            FrameError::Push,
        ),
        (vec![frame(HEADERS, END_HEADERS, 1, &[0x41])], FrameError::Hpack),
        (
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[])],
            FrameError::Padding,
        ),
        (
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[1])],
            FrameError::Padding,
        ),
        (
            vec![frame(HEADERS, END_HEADERS | PRIORITISED, 1, &[0; 4])],
            FrameError::Padding,
        ),
        (
            vec![frame(
                HEADERS,
                END_HEADERS | PADDED | PRIORITISED,
                1,
                &[1, 0, 0, 0, 0, 0],
            )],
            FrameError::Padding,
        ),
    ] {
        assert_eq!(feed(&frames), Err(error), "{frames:x?}");
    }
}

#[test]
fn frames_and_blocks_are_bounded() {
    assert_eq!(
        feed(&[vec![0, 0x40, 1, DATA, 0, 0, 0, 0, 1]]),
        Err(FrameError::FrameTooLarge)
    );
    let many: Vec<_> = std::iter::once(frame(HEADERS, 0, 1, &[]))
        .chain((0..=CONTINUATIONS).map(|_| frame(CONTINUATION, 0, 1, &[])))
        .collect();
    assert_eq!(feed(&many), Err(FrameError::BlockTooLarge));
    let large = vec![0x82; 10_000];
    let block = [
        frame(HEADERS, 0, 1, &large),
        frame(CONTINUATION, END_HEADERS, 1, &large),
    ];
    assert_eq!(feed(&block), Err(FrameError::BlockTooLarge));
}

#[test]
fn floods_are_ended_and_work_is_not() {
    for flood in [
        frame(PING, 0, 0, &NONCE),
        frame(PING, ACK, 0, &NONCE),
        frame(4, 0, 0, &[]),
        frame(8, 0, 0, &[0, 0, 0, 1]),
        frame(DATA, 0, 1, &[]),
        frame(2, 0, 1, &[0; 5]),
        frame(0xee, 0, 0, &[]),
        [
            frame(HEADERS, END_HEADERS, 1, &[0x82]),
            frame(RST_STREAM, 0, 1, &[0; 4]),
        ]
        .concat(),
    ] {
        let mut inbound = begun();
        let ended = (0..10_000).find_map(|_| inbound.feed(&mut flood.clone(), None).err());
        assert_eq!(ended, Some(FrameError::Flood), "{flood:x?}");
    }
    let mut inbound = begun();
    let work = [
        frame(HEADERS, END_HEADERS, 1, &[0x82]),
        frame(DATA, END_STREAM, 1, &[0; 5]),
    ]
    .concat();
    for _ in 0..10_000 {
        inbound.feed(&mut work.clone(), None).unwrap();
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_judged_alike_over_any_splitting(
        frames in prop::collection::vec(
            (0u8..12, any::<u8>(), 0u8..3, prop::collection::vec(any::<u8>(), 0..30)), 0..10),
        tail in prop::collection::vec(any::<u8>(), 0..30),
        cuts in prop::collection::vec(1usize..12, 1..6),
    ) {
        let mut bytes: Vec<u8> = PREFACE.to_vec();
        for (kind, flags, stream, payload) in &frames {
            bytes.extend(frame(*kind, *flags, *stream, payload));
        }
        bytes.extend(frame(PING, ACK, 0, &NONCE));
        bytes.extend(tail);
        let mut whole = bytes.clone();
        let verdict = Inbound::default().feed(&mut whole, Some(NONCE));
        let mut inbound = Inbound::default();
        let (mut at, mut answered, mut ended) = (0, false, None);
        for cut in cuts.iter().cycle() {
            if at == bytes.len() || ended.is_some() { break }
            let end = (at + cut).min(bytes.len());
            match inbound.feed(&mut bytes[at..end], Some(NONCE)) {
                Ok(here) => answered |= here,
                Err(error) => ended = Some(error),
            }
            at = end;
        }
        prop_assert_eq!(ended.map_or(Ok(answered), Err), verdict);
        if verdict.is_ok() {
            // They differ in how the answer is shown to the server above, and in nothing else.
            let differences: Vec<_> = whole.iter().zip(&bytes).filter(|(a, b)| a != b).collect();
            prop_assert!(differences.iter().all(|&(&a, &b)| a == IGNORED && b == PING));
        }
    }
}
