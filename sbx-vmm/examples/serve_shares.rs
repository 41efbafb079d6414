//! Serves directories given as NAME=DIR[:ro][:PROTECTED]... on a socket.
use sbx_vmm::config::{IdMap, Share};
use std::os::unix::net::UnixListener;
struct L; impl tracing::Subscriber for L { fn enabled(&self,_:&tracing::Metadata<'_>)->bool{true} fn new_span(&self,_:&tracing::span::Attributes<'_>)->tracing::span::Id{tracing::span::Id::from_u64(1)} fn record(&self,_:&tracing::span::Id,_:&tracing::span::Record<'_>){} fn record_follows_from(&self,_:&tracing::span::Id,_:&tracing::span::Id){} fn event(&self,e:&tracing::Event<'_>){ struct V; impl tracing::field::Visit for V { fn record_debug(&mut self,f:&tracing::field::Field,v:&dyn std::fmt::Debug){ eprint!(" {}={:?}",f,v);} } e.record(&mut V); eprintln!(); } fn enter(&self,_:&tracing::span::Id){} fn exit(&self,_:&tracing::span::Id){} }
fn main() { tracing::subscriber::set_global_default(L).unwrap();
    let mut args = std::env::args().skip(1);
    let socket = args.next().unwrap();
    let shares: Vec<Share> = args.map(|a| {
        let (name, rest) = a.split_once('=').unwrap();
        let mut parts = rest.split(':');
        let host = parts.next().unwrap().into();
        let rest: Vec<_> = parts.collect();
        Share { name: name.into(), host, read_only: rest.contains(&"ro"), protected: rest.iter().filter(|r| **r != "ro").map(|r| (*r).into()).collect() }
    }).collect();
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let ids = IdMap { host_uid: uid, host_gid: gid, guest_uid: 1000, guest_gid: 1000 };
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let device = sbx_vmm::virtio::fs::shares(&shares, ids).unwrap();
    let handle = sbx_vmm::virtio::vhost_user::serve(Box::new(device), listener).unwrap();
    while !handle.is_finished() { std::thread::sleep(std::time::Duration::from_millis(50)); }
}
