//! Links and addresses of one network namespace, over rtnetlink(7): a few requests, one after the other.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// A socket in one network namespace, from whatever thread it is used.
pub(crate) struct Route(Socket);

impl Route {
    /// In the caller's namespace.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub(crate) fn here() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self(socket))
    }

    /// In `namespace`.
    ///
    /// # Errors
    /// As [`Self::here`], and those of setns(2).
    pub(crate) fn inside(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        husk_sys::netns::with(namespace, Self::here)?
    }

    /// The index of a link.
    ///
    /// # Errors
    /// ENODEV: there is none of this name.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let found = self.ask(RouteNetlinkMessage::GetLink(link), 0)?;
        let index = found.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        });
        index.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The addresses of a link that somebody gave it for good and that hold beyond it (scope global), in the form that [`Self::add`]
    /// takes.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn addresses(&self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let all = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let wanted = |message: RouteNetlinkMessage| match message {
            RouteNetlinkMessage::NewAddress(address)
                if address.header.index == index
                    && address.header.scope == AddressScope::Universe
                    && address.header.flags.contains(AddressHeaderFlags::Permanent) =>
            {
                Some(plain(address))
            }
            _ => None,
        };
        Ok(all.into_iter().filter_map(wanted).collect())
    }

    /// Gives an address to a link. One that it has already is fine.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn add(&self, mut address: AddressMessage, index: u32) -> io::Result<()> {
        address.header.index = index;
        match self.ask(RouteNetlinkMessage::NewAddress(address), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            added => added.map(drop),
        }
    }

    /// Starts a link.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn start(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        (link.header.flags, link.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        self.ask(RouteNetlinkMessage::SetLink(link), 0).map(drop)
    }

    /// Stops a link and gives it to another namespace, under a name there; both or, if the kernel refuses, neither.
    ///
    /// # Errors
    /// EEXIST: the name is taken there. EINVAL: the link cannot leave its namespace.
    pub(crate) fn give(&self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.change_mask = LinkFlags::Up;
        link.attributes
            .extend([LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::IfName(name.to_owned())]);
        self.ask(RouteNetlinkMessage::SetLink(link), 0).map(drop)
    }

    /// Sends a request, and returns what the kernel answers up to the end.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::from(request);
        let dumps = flags & NLM_F_DUMP == NLM_F_DUMP;
        message.header.flags = NLM_F_REQUEST | flags | if dumps { 0 } else { NLM_F_ACK };
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, from) = self.0.recv_from_full()?;
            // Any process of the namespace may send us something.
            if from.port_number() != 0 {
                continue;
            }
            let mut rest = datagram.as_slice();
            while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
                let (one, others) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
                let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                match NetlinkMessage::deserialize(one).map_err(malformed)?.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
                // Each begins at a multiple of four (NLMSG_ALIGNTO).
                rest = others.get(length.next_multiple_of(4) - length..).unwrap_or_default();
            }
        }
    }
}

/// An address as it is given, without what the kernel says of it.
fn plain(mut address: AddressMessage) -> AddressMessage {
    let v6 = address.header.family == AddressFamily::Inet6;
    address.attributes.retain(|attribute| {
        matches!(
            attribute,
            AddressAttribute::Address(_)
                | AddressAttribute::Local(_)
                | AddressAttribute::Broadcast(_)
                | AddressAttribute::Flags(_)
        )
    });
    for attribute in &mut address.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            // It was found to be nobody else's before, on the same wire.
            *flags = if v6 { *flags | AddressFlags::Nodad } else { *flags };
        }
    }
    address
}
