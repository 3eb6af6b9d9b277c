//! Numbers of the nf_tables netlink interface (`linux/netfilter/nf_tables.h`, `nfnetlink.h`,
//! `netlink.h`), under the kernel's names without the common prefix of each enumeration.

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const BATCH_BEGIN: u16 = 0x10;
pub(crate) const BATCH_END: u16 = 0x11;
/// Attribute of `BATCH_BEGIN`: commit only if the generation is still this one.
pub(crate) const BATCH_GENID: u16 = 1;
pub(crate) const SUBSYS_CTNETLINK: u8 = 1;
pub(crate) const SUBSYS_ULOG: u8 = 4;
pub(crate) const SUBSYS_NFTABLES: u8 = 10;
/// The group that hears of every change of nf_tables.
pub(crate) const GROUP_NFTABLES: u32 = 7;

pub(crate) const REQUEST: u16 = 0x01;
pub(crate) const ACK: u16 = 0x04;
pub(crate) const DUMP: u16 = 0x300;
/// The object must not exist.
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
/// On a reply: the dump was interrupted by a change.
pub(crate) const DUMP_INTR: u16 = 0x10;
/// On an error reply: the failing message is not echoed beyond its header.
pub(crate) const CAPPED: u16 = 0x100;
/// On an error reply: attributes follow.
pub(crate) const ACK_TLVS: u16 = 0x200;

pub(crate) const NLA_NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are not flags.
pub(crate) const NLA_TYPE: u16 = 0x3fff;

/// Attributes of an error reply.
pub(crate) mod extack {
    pub(crate) const MSG: u16 = 1;
    pub(crate) const OFFS: u16 = 2;
}

/// Message types of the nf_tables subsystem.
pub(crate) mod msg {
    pub(crate) const NEWTABLE: u8 = 0;
    pub(crate) const GETTABLE: u8 = 1;
    pub(crate) const DELTABLE: u8 = 2;
    pub(crate) const NEWCHAIN: u8 = 3;
    pub(crate) const GETCHAIN: u8 = 4;
    pub(crate) const DELCHAIN: u8 = 5;
    pub(crate) const NEWRULE: u8 = 6;
    pub(crate) const GETRULE: u8 = 7;
    pub(crate) const DELRULE: u8 = 8;
    pub(crate) const NEWSET: u8 = 9;
    pub(crate) const GETSET: u8 = 10;
    pub(crate) const DELSET: u8 = 11;
    pub(crate) const NEWSETELEM: u8 = 12;
    pub(crate) const GETSETELEM: u8 = 13;
    pub(crate) const DELSETELEM: u8 = 14;
    pub(crate) const NEWGEN: u8 = 15;
    pub(crate) const GETGEN: u8 = 16;
}

pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USERDATA: u16 = 6;

    pub(crate) const FLAG_DORMANT: u32 = 0x1;
    pub(crate) const FLAG_OWNER: u32 = 0x2;
    pub(crate) const FLAG_PERSIST: u32 = 0x4;
}

pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const USERDATA: u16 = 12;
}

pub(crate) mod hook {
    pub(crate) const HOOKNUM: u16 = 1;
    pub(crate) const PRIORITY: u16 = 2;
}

pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
}

pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DESC: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;

    pub(crate) const DESC_SIZE: u16 = 1;

    pub(crate) const FLAG_INTERVAL: u32 = 0x4;
    pub(crate) const FLAG_MAP: u32 = 0x8;

    /// Key types as the nft tool numbers them; the kernel only stores them.
    pub(crate) const TYPE_IPV4_ADDR: u32 = 7;
    pub(crate) const TYPE_IPV6_ADDR: u32 = 8;
    pub(crate) const TYPE_INET_SERVICE: u32 = 13;
    pub(crate) const TYPE_IFNAME: u32 = 41;
    /// How far each part of a concatenated key shifts the types before it.
    pub(crate) const CONCAT_BITS: u32 = 6;
    pub(crate) const TYPE_VERDICT: u32 = 0xffff_ff00;
}

pub(crate) mod elem_list {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
}

pub(crate) mod elem {
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;

    pub(crate) const FLAG_INTERVAL_END: u32 = 1;
}

/// The only attribute type of a list.
pub(crate) const LIST_ELEM: u16 = 1;

pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
}

pub(crate) mod verdict {
    pub(crate) const CODE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;

    pub(crate) const DROP: i32 = 0;
    pub(crate) const ACCEPT: i32 = 1;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}

pub(crate) mod expr {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DATA: u16 = 2;

    /// The register that every test of this crate reads.
    pub(crate) const REG_1: u32 = 1;
    pub(crate) const REG_2: u32 = 2;
    /// The second four bytes of register 1.
    pub(crate) const REG32_01: u32 = 9;
    pub(crate) const REG_VERDICT: u32 = 0;
}

pub(crate) mod payload {
    pub(crate) const DREG: u16 = 1;
    pub(crate) const BASE: u16 = 2;
    pub(crate) const OFFSET: u16 = 3;
    pub(crate) const LEN: u16 = 4;

    pub(crate) const BASE_NETWORK: u32 = 1;
    pub(crate) const BASE_TRANSPORT: u32 = 2;
}

pub(crate) mod meta {
    pub(crate) const DREG: u16 = 1;
    pub(crate) const KEY: u16 = 2;

    pub(crate) const KEY_IIFNAME: u32 = 6;
    pub(crate) const KEY_OIFNAME: u32 = 7;
    pub(crate) const KEY_L4PROTO: u32 = 16;
    pub(crate) const INTERFACE_LENGTH: u32 = 16;
}

pub(crate) mod ct {
    pub(crate) const DREG: u16 = 1;
    pub(crate) const KEY: u16 = 2;

    pub(crate) const KEY_STATE: u32 = 0;
}

pub(crate) mod cmp {
    pub(crate) const SREG: u16 = 1;
    pub(crate) const OP: u16 = 2;
    pub(crate) const DATA: u16 = 3;

    pub(crate) const EQ: u32 = 0;
    pub(crate) const NEQ: u32 = 1;
    pub(crate) const LTE: u32 = 3;
    pub(crate) const GTE: u32 = 5;
}

pub(crate) mod bitwise {
    pub(crate) const SREG: u16 = 1;
    pub(crate) const DREG: u16 = 2;
    pub(crate) const LEN: u16 = 3;
    pub(crate) const MASK: u16 = 4;
    pub(crate) const XOR: u16 = 5;
}

pub(crate) mod lookup {
    pub(crate) const SET: u16 = 1;
    pub(crate) const SREG: u16 = 2;
    pub(crate) const DREG: u16 = 3;
    pub(crate) const FLAGS: u16 = 5;

    pub(crate) const FLAG_INVERTED: u32 = 1;
}

pub(crate) mod immediate {
    pub(crate) const DREG: u16 = 1;
    pub(crate) const DATA: u16 = 2;
}

pub(crate) mod counter {
    pub(crate) const BYTES: u16 = 1;
    pub(crate) const PACKETS: u16 = 2;
}

pub(crate) mod log {
    pub(crate) const GROUP: u16 = 1;
    pub(crate) const PREFIX: u16 = 2;
}

pub(crate) mod generation {
    pub(crate) const ID: u16 = 1;
    pub(crate) const PROC_PID: u16 = 2;
    pub(crate) const PROC_NAME: u16 = 3;
}

/// Connection tracking.
pub(crate) mod conntrack {
    pub(crate) const GET: u8 = 1;
    pub(crate) const DELETE: u8 = 2;

    pub(crate) const TUPLE_ORIG: u16 = 1;
    pub(crate) const TUPLE_REPLY: u16 = 2;
    pub(crate) const ID: u16 = 12;
    pub(crate) const ZONE: u16 = 18;

    pub(crate) const TUPLE_IP: u16 = 1;
    pub(crate) const TUPLE_PROTO: u16 = 2;
    pub(crate) const V4_SRC: u16 = 1;
    pub(crate) const V6_SRC: u16 = 3;
    pub(crate) const PROTO_NUM: u16 = 1;
    pub(crate) const PROTO_SRC_PORT: u16 = 2;
}

/// Reports of packets.
pub(crate) mod ulog {
    pub(crate) const PACKET: u8 = 0;
    pub(crate) const CONFIG: u8 = 1;

    pub(crate) const PAYLOAD: u16 = 9;
    pub(crate) const PREFIX: u16 = 10;

    pub(crate) const CONFIG_COMMAND: u16 = 1;
    pub(crate) const CONFIG_MODE: u16 = 2;
    pub(crate) const CONFIG_TIMEOUT: u16 = 4;
    pub(crate) const BIND: u8 = 1;
    pub(crate) const COPY_PACKET: u8 = 2;
}

pub(crate) mod limit {
    pub(crate) const RATE: u16 = 1;
    pub(crate) const UNIT: u16 = 2;
    pub(crate) const BURST: u16 = 3;
    pub(crate) const TYPE: u16 = 4;
    pub(crate) const FLAGS: u16 = 5;

    pub(crate) const TYPE_PACKETS: u32 = 0;
}

/// Types of the records that the nft tool keeps in `USERDATA`.
pub(crate) mod udata {
    pub(crate) const TABLE_COMMENT: u8 = 0;
    pub(crate) const CHAIN_COMMENT: u8 = 0;
    pub(crate) const RULE_COMMENT: u8 = 0;
    pub(crate) const SET_COMMENT: u8 = 7;
    pub(crate) const SET_KEY_ORDER: u8 = 0;
    pub(crate) const HOST_ORDER: u32 = 1;
    pub(crate) const ELEMENT_COMMENT: u8 = 0;
}
