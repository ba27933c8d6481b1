//! How tonic encodes the messages of the services: each into memory that has room for all of it.
//!
//! tonic's own encoder begins with 8 KiB and doubles it, so a large answer is copied several times on its way. What the
//! bytes are is prost's affair alone.

use bytes::BufMut;
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// What an answer begins with, in bytes: the frame header and a small message.
const BUFFER_BYTES: usize = 256;
/// Streamed messages go out together from this many bytes on, as in tonic.
const TOGETHER_BYTES: usize = 32 << 10;

/// What can be sent as a message.
pub(crate) trait Encodable: Send + 'static {
    /// Its encoded bytes.
    fn bytes(&self) -> usize;
    /// Writes them.
    fn write(&self, buffer: &mut impl BufMut);
}

impl<T: Message + 'static> Encodable for T {
    fn bytes(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, buffer: &mut impl BufMut) {
        self.encode_raw(buffer);
    }
}

/// The codec of all services and clients.
#[derive(Debug)]
pub(crate) struct RoomyCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for RoomyCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for RoomyCodec<T, U>
where
    T: Encodable,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = RoomyEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        RoomyEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<U, U>::raw_decoder(BufferSettings::default())
    }
}

/// Its encoder.
#[derive(Debug)]
pub(crate) struct RoomyEncoder<T>(PhantomData<T>);

impl<T: Encodable> Encoder for RoomyEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.bytes());
        item.write(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES)
    }
}
