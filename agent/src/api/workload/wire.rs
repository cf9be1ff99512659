//! Requests are decoded; answers are bytes already, encoded once for all callers of a view.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Decodes `M`, and sends bytes as they are.
#[derive(Debug)]
pub(super) struct Wire<M>(PhantomData<M>);

impl<M> Default for Wire<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + Send + 'static> Codec for Wire<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<M> Encoder for Wire<M> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl<M: Message + Default> Decoder for Wire<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let wrong = |_| Status::invalid_argument("the request is not a message of this method");
        if from.has_remaining() {
            M::decode(from).map(Some).map_err(wrong)
        } else {
            Ok(Some(M::default()))
        }
    }
}
