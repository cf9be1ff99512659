use muster_transport::fuzzing::{FrameError, Inbound};

use crate::Target;

/// The answer that a proof of presence waits for.
const EXPECTED: [u8; 8] = *b"presence";
const PING: u8 = 6;
const IGNORED: u8 = 0xf7;

/// What a client sends is judged and repaired the same way however the kernel splits it.
pub(super) const HTTP2: Target = Target {
    name: "http2",
    run: |input| {
        let mut whole = input.to_vec();
        let verdict = Inbound::default().feed(&mut whole, Some(EXPECTED));
        let step = 1 + usize::from(input.len().to_le_bytes()[0] % 7);
        let (mut pieces, mut split, mut answered) = (input.to_vec(), Inbound::default(), Ok(false));
        for piece in pieces.chunks_mut(step) {
            match split.feed(piece, Some(EXPECTED)) {
                Ok(now) => answered = answered.map(|before: bool| before | now),
                Err(error) => {
                    answered = Err(error);
                    break;
                }
            }
        }
        // How many frames are a flood is a matter of time.
        if [verdict, answered].contains(&Err(FrameError::Flood)) {
            return;
        }
        assert_eq!(verdict, answered, "it matters how the bytes are split");
        // One difference is meant: an answered PING that came in one piece is made a frame that nobody looks at.
        let same = |(whole, split): (&u8, &u8)| whole == split || (*whole, *split) == (IGNORED, PING);
        if verdict.is_ok() {
            assert!(
                whole.iter().zip(&pieces).all(same),
                "it matters how the bytes are split"
            );
        }
    },
    seeds: || {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).expect("short");
            [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let headers = b"\x83\x86\x41\x04host\x44\x02/a\x40\x12workload.spiffe.io\x04true";
        let parts = [
            preface.clone(),
            frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(4, 1, 0, &[]),
            frame(6, 1, 0, &EXPECTED),
            frame(1, 4, 1, headers),
            frame(0, 1, 1, &[0; 5]),
        ];
        let padded = [
            preface,
            frame(4, 0, 0, &[]),
            frame(1, 0x0c, 3, &[1, 0x82, 0]),
            frame(9, 4, 3, &[0x84]),
        ];
        vec![parts.concat(), padded.concat()]
    },
    words: &[
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{0}\u{0}\u{8}\u{6}\u{1}\u{0}\u{0}\u{0}\u{0}",
        "\u{41}\u{4}host",
    ],
};
