//! How much of a list goes into one answer.

use prost::Message;

use super::Refusal;

/// The most items that one page holds when pages are asked for: the next one is a call away (I10).
const MOST: usize = 1_000;
/// The most bytes in one answer. Clients of gRPC refuse messages of more than 4 MiB.
const MOST_BYTES: usize = 3 << 20;

/// The size of a page, as it was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Size {
    /// SPIRE's 0: all of the list, without pages. What does not fit into one answer gets a token all the same; SPIRE's server fails there.
    All,
    /// At most so many.
    Most(usize),
}

impl Size {
    /// `page_size` of a request.
    pub(super) fn asked(size: i32) -> Result<Self, Refusal> {
        match usize::try_from(size) {
            Ok(0) => Ok(Self::All),
            Ok(size) => Ok(Self::Most(size.min(MOST))),
            Err(_) => Err(Refusal::invalid(format!("page_size: {size} is negative"))),
        }
    }

    /// The items of one answer, and the token of the next. With pages each that is not empty gets one, as SPIRE has it; without, only one after which there is more.
    pub(super) fn fill<T, M: Message>(
        self,
        found: impl Iterator<Item = T>,
        to_wire: impl Fn(&T) -> M,
        token: impl Fn(&T) -> String,
    ) -> (Vec<M>, String) {
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        for item in found {
            if self == Self::Most(items.len()) {
                break;
            }
            let wire = to_wire(&item);
            // The item's own length comes before it, in at most five bytes.
            bytes += wire.encoded_len() + 6;
            if bytes > MOST_BYTES && !items.is_empty() {
                return (items, last.as_ref().map(token).unwrap_or_default());
            }
            items.push(wire);
            last = Some(item);
        }
        match self {
            Self::All => (items, String::new()),
            Self::Most(_) => (items, last.as_ref().map(token).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as large as it says, roughly; its token is its number.
    fn page(size: i32, bytes: &[usize]) -> (Vec<String>, String) {
        Size::asked(size).unwrap().fill(
            bytes.iter().enumerate(),
            |(_, n)| "x".repeat(**n),
            |(i, _)| i.to_string(),
        )
    }

    #[test]
    fn a_list_without_pages_is_whole_and_has_no_token() {
        let (items, token) = page(0, &[10; 5_000]);
        assert_eq!((items.len(), token.as_str()), (5_000, ""));
        assert_eq!(page(0, &[]), (vec![], String::new()));
    }

    #[test]
    fn a_list_without_pages_that_no_client_could_take_says_where_it_goes_on() {
        let (items, token) = page(0, &[1 << 20; 5]);
        assert_eq!((items.len(), token.as_str()), (2, "1"));
        // One that is too large alone is not left out.
        let (items, token) = page(0, &[5 << 20, 1]);
        assert_eq!((items.len(), token.as_str()), (1, "0"));
    }

    #[test]
    fn a_page_is_bounded_in_number_and_in_bytes_and_has_a_token_unless_it_is_empty() {
        let (items, token) = page(3, &[1; 5]);
        assert_eq!((items.len(), token.as_str()), (3, "2"));
        let (items, token) = page(i32::MAX, &[1; 2_000]);
        assert_eq!((items.len(), token.as_str()), (1_000, "999"));
        let (items, token) = page(5, &[1 << 20; 5]);
        assert_eq!((items.len(), token.as_str()), (2, "1"));
        assert_eq!(page(3, &[1]).1, "0");
        assert_eq!(page(3, &[]).1, "");
        assert!(Size::asked(-1).is_err());
    }
}
