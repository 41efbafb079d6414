//! The name server of the network.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, TXT},
    },
};

/// Port of name servers (RFC 1035, 4.2).
const PORT: u16 = 53;

/// Seconds for which an answer may be kept.
const TTL: u32 = 60;

/// Most bytes of an answer in a datagram (RFC 1035, 4.2.1); what is longer has to be asked for over TCP.
const MAX_DATAGRAM_BYTES: usize = 512;

/// What the server knows, and what it was asked.
#[derive(Default)]
pub(super) struct Names {
    records: Mutex<HashMap<(String, RecordType), Vec<RData>>>,
    questions: Mutex<Vec<String>>,
}

impl Names {
    /// Answers at `address` from now on.
    pub(super) fn listen(self: &Arc<Self>, address: IpAddr) -> io::Result<()> {
        let socket = UdpSocket::bind((address, PORT))?;
        let names = Arc::clone(self);
        thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok((count, peer)) = socket.recv_from(&mut datagram) {
                let Some(mut answer) = names.answer(&datagram[..count]) else { continue };
                if answer.to_vec().is_ok_and(|bytes| bytes.len() > MAX_DATAGRAM_BYTES) {
                    answer.metadata.truncation = true;
                    answer.answers.clear();
                }
                let _ = socket.send_to(&answer.to_vec().unwrap_or_default(), peer);
            }
        });
        let listener = TcpListener::bind((address, PORT))?;
        let names = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let names = Arc::clone(&names);
                thread::spawn(move || drop(names.serve_stream(stream)));
            }
        });
        Ok(())
    }

    /// Puts records in place of those of the same kind.
    pub(super) fn set(&self, name: &str, kind: &str, records: &[String]) -> io::Result<()> {
        let wrong = |_| io::Error::other("not an address");
        let (kind, records): (_, io::Result<Vec<RData>>) = match kind {
            "A" => {
                let read = |text: &String| Ok(RData::A(A(text.parse().map_err(wrong)?)));
                (RecordType::A, records.iter().map(read).collect())
            }
            "AAAA" => {
                let read = |text: &String| Ok(RData::AAAA(AAAA(text.parse().map_err(wrong)?)));
                (RecordType::AAAA, records.iter().map(read).collect())
            }
            "TXT" => {
                let read = |text: &String| Ok(RData::TXT(TXT::new(vec![text.clone()])));
                (RecordType::TXT, records.iter().map(read).collect())
            }
            other => return Err(io::Error::other(format!("no records of kind {other}"))),
        };
        self.records.lock().unwrap().insert((name.to_owned(), kind), records?);
        Ok(())
    }

    /// What was asked.
    pub(super) fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap().clone()
    }

    fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            let Some(answer) = self.answer(&question) else { return Ok(()) };
            let bytes = answer.to_vec().map_err(io::Error::other)?;
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat())?;
        }
    }

    fn answer(&self, question: &[u8]) -> Option<Message> {
        let asked = Message::from_vec(question).ok()?;
        let query = asked.queries.first()?.clone();
        let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
        self.questions.lock().unwrap().push(name.clone());
        let records = self.records.lock().unwrap();
        let mut answer = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
        match records.get(&(name.clone(), query.query_type())) {
            Some(found) => {
                let record = |data: &RData| Record::from_rdata(Name::clone(query.name()), TTL, data.clone());
                answer.answers.extend(found.iter().map(record));
            }
            None if records.keys().any(|(known, _)| *known == name) => {}
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer.add_query(query);
        Some(answer)
    }
}
