use muster_identity::Subject;
use tonic::Code;

use crate::{
    admission::{self, Full},
    api::Refusal,
};

/// How many calls may follow entries at once. After a commit each of them may look at every node for every entry that it follows.
const IN_ALL: usize = 64;
/// How many of them may be of one caller, over all its connections. One call follows many entries; a second one is for whoever registers meanwhile.
const OF_ONE: usize = 4;

/// Room for those who follow. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Places(admission::Places<Subject>);

/// A call's place, until it is dropped.
pub(super) type Place = admission::Place<Subject>;

impl Default for Places {
    fn default() -> Self {
        Self(admission::Places::new(IN_ALL))
    }
}

impl Places {
    /// A place for a call of `caller`, if there is one.
    pub(super) fn take(&self, caller: Subject) -> Result<Place, Refusal> {
        self.0.take(caller, OF_ONE).map_err(|full| {
            let text = match full {
                Full::One => {
                    format!("{OF_ONE} calls of this caller follow entries, the most that one may have")
                }
                Full::All => format!("{IN_ALL} calls follow entries, the most at once"),
            };
            Refusal::new(Code::ResourceExhausted, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_and_all_together_have_so_many_places_and_get_them_back() {
        let places = Places::default();
        let take = |uid| places.take(Subject::Uid(uid));
        let mut own: Vec<Place> = (0..OF_ONE).map(|_| take(1).unwrap()).collect();
        let refused = take(1).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(
            refused.message(),
            "4 calls of this caller follow entries, the most that one may have"
        );
        // Others are not kept out by it.
        let other = take(2).unwrap();
        own.pop();
        own.push(take(1).unwrap());
        drop((own, other));

        let uids = (0..).flat_map(|uid| [uid; OF_ONE]);
        let mut all: Vec<Place> = uids.take(IN_ALL).map(|uid| take(uid).unwrap()).collect();
        let refused = take(u32::MAX).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "64 calls follow entries, the most at once");
        all.pop();
        take(u32::MAX).unwrap();
    }
}
