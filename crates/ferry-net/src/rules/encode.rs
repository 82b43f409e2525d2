//! Tables as nf_tables messages (`linux/netfilter/nf_tables.h`), one transaction in one `sendmsg`.

use ipnet::IpNet;

use super::table::{
    Chain, Element, Family, Field, Hook, Set, Statement, TABLE, Table, Type, Value, successor,
};
use crate::NetError;
use crate::netlink::{ACK, APPEND, Batch, CREATE, Socket, attribute};
use std::net::IpAddr;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const DELTABLE: u16 = NEWTABLE + 2;
const NEWCHAIN: u16 = NEWTABLE + 3;
const NEWRULE: u16 = NEWTABLE + 6;
const NEWSET: u16 = NEWTABLE + 9;
const NEWSETELEM: u16 = NEWTABLE + 12;
const DELSETELEM: u16 = NEWTABLE + 14;
const NEWGEN: u16 = NEWTABLE + 15;
const GETGEN: u16 = NEWTABLE + 16;

const NFTA_GEN_ID: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_USERDATA: u16 = 13;
/// A note to nft, which else lists names as numbers: NFTNL_UDATA_SET_KEYBYTEORDER, four bytes, the host's order.
const HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};
/// The first attribute of every expression is a register or a set's name; the others are named where they are used.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// `NFT_SET_INTERVAL` and `NFT_SET_MAP`.
const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
/// `NFT_SET_ELEM_INTERVAL_END`.
const ELEMENT_INTERVAL_END: u32 = 1;
/// `NFT_REG_VERDICT`.
const REG_VERDICT: u32 = 0;
/// `NFT_REG32_00`: the first of sixteen registers of four bytes each.
const REG: u32 = 8;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
/// A link name's field, `IFNAMSIZ`.
const IFNAME_LEN: usize = 16;
/// So many elements go into one message: its list must stay below 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 400;

/// Changes that the kernel makes all at once or not at all.
pub struct Transaction {
    batch: Batch,
    changes: u32,
}

impl Transaction {
    /// Without changes yet.
    pub fn new() -> Self {
        let mut batch = Batch::new();
        batch.message(
            "begin a rule transaction",
            (BATCH_BEGIN, 0),
            &header(0, SUBSYSTEM),
            |_| {},
        );
        Transaction { batch, changes: 0 }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// The messages, the last change being answered.
    pub fn finish(mut self) -> Batch {
        self.batch.acknowledge_last();
        self.batch
            .close("commit a rule transaction", (BATCH_END, 0), &header(0, SUBSYSTEM));
        self.batch
    }

    fn change(
        &mut self,
        operation: String,
        (kind, flags): (u16, u16),
        family: Family,
        fill: impl FnOnce(&mut Batch),
    ) {
        self.changes += 1;
        self.batch
            .message(operation, (kind, flags), &header(number(family), 0), fill);
    }

    /// Deletes a table, there or not.
    pub fn delete_table(&mut self, family: Family) {
        for (kind, flags) in [(NEWTABLE, CREATE), (DELTABLE, 0)] {
            self.change("delete the rule table".into(), (kind, flags), family, |batch| {
                batch.text(NFTA_TABLE_NAME, TABLE)
            });
        }
    }

    /// Puts a table into the place of the one there.
    pub fn replace_table(&mut self, table: &Table) {
        let family = table.family;
        self.delete_table(family);
        let operation = "create the rule table (does the kernel have nf_tables?)".to_owned();
        self.change(operation, (NEWTABLE, CREATE), family, |batch| {
            batch.text(NFTA_TABLE_NAME, TABLE)
        });
        for (id, set) in (1u32..).zip(&table.sets) {
            self.add_set(family, set, id);
        }
        for chain in &table.chains {
            self.add_chain(family, chain);
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.add_rule(family, chain.name, rule);
            }
        }
        for set in &table.sets {
            for elements in set.elements.chunks(ELEMENTS_A_MESSAGE) {
                self.elements((family, set.name), NEWSETELEM, elements);
            }
        }
    }

    /// Adds an element to a map or removes it.
    pub fn change_element(&mut self, family: Family, map: &'static str, element: &Element, add: bool) {
        let kind = if add { NEWSETELEM } else { DELSETELEM };
        self.elements((family, map), kind, std::slice::from_ref(element));
    }

    fn add_set(&mut self, family: Family, set: &Set, id: u32) {
        let operation = format!("create rule set {}", set.name);
        self.change(operation, (NEWSET, CREATE), family, |batch| {
            batch.text(NFTA_SET_TABLE, TABLE);
            batch.text(NFTA_SET_NAME, set.name);
            let interval = if set.interval { SET_INTERVAL } else { 0 };
            batch.be32(
                NFTA_SET_FLAGS,
                interval | if set.data.is_empty() { 0 } else { SET_MAP },
            );
            batch.be32(NFTA_SET_KEY_TYPE, type_number(family, set.key));
            batch.be32(NFTA_SET_KEY_LEN, type_length(family, set.key));
            if !set.data.is_empty() {
                batch.be32(NFTA_SET_DATA_TYPE, type_number(family, set.data));
                batch.be32(NFTA_SET_DATA_LEN, type_length(family, set.data));
            }
            batch.be32(NFTA_SET_ID, id);
            if set.key == [Type::Ifname] {
                batch.attr(NFTA_SET_USERDATA, &HOST_ORDER);
            }
        });
    }

    fn add_chain(&mut self, family: Family, chain: &Chain) {
        let operation = format!("create rule chain {}", chain.name);
        self.change(operation, (NEWCHAIN, CREATE), family, |batch| {
            batch.text(NFTA_CHAIN_TABLE, TABLE);
            batch.text(NFTA_CHAIN_NAME, chain.name);
            let Some(Hook {
                kind,
                point,
                priority,
                drop,
            }) = chain.hook
            else {
                return;
            };
            batch.nest(NFTA_CHAIN_HOOK, |batch| {
                batch.be32(NFTA_HOOK_HOOKNUM, point as u32);
                batch.be32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            });
            batch.be32(
                NFTA_CHAIN_POLICY,
                if drop { NF_DROP } else { NF_ACCEPT }.cast_unsigned(),
            );
            batch.text(NFTA_CHAIN_TYPE, kind);
        });
    }

    fn add_rule(&mut self, family: Family, chain: &'static str, rule: &[Statement]) {
        let operation = format!("create a rule of chain {chain}");
        self.change(operation, (NEWRULE, CREATE | APPEND), family, |batch| {
            batch.text(NFTA_RULE_TABLE, TABLE);
            batch.text(NFTA_RULE_CHAIN, chain);
            batch.nest(NFTA_RULE_EXPRESSIONS, |batch| {
                for statement in rule {
                    encode_statement(batch, family, statement);
                }
            });
        });
    }

    fn elements(&mut self, (family, set): (Family, &'static str), kind: u16, elements: &[Element]) {
        let flags = if kind == NEWSETELEM { CREATE } else { 0 };
        self.change(
            format!("change the elements of rule set {set}"),
            (kind, flags),
            family,
            |batch| {
                batch.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
                batch.text(NFTA_SET_ELEM_LIST_SET, set);
                batch.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |batch| {
                    for element in elements {
                        encode_element(batch, element);
                    }
                });
            },
        );
    }
}

/// The kernel's number of the rule set: it changes with every transaction of anybody.
pub fn generation(socket: &mut Socket) -> Result<u32, NetError> {
    let mut batch = Batch::new();
    batch.message(
        "ask for the rules' generation",
        (GETGEN, ACK),
        &header(0, 0),
        |_| {},
    );
    let mut generation = None;
    socket.dump(&batch, |kind, payload| {
        if kind == NEWGEN {
            let id = payload
                .get(4..)
                .and_then(|attributes| attribute(attributes, NFTA_GEN_ID));
            generation = id.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        }
    })?;
    generation.ok_or_else(|| {
        NetError::Unsupported("the kernel does not tell the generation of its packet rules".into())
    })
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The number by which nft knows a type when it lists a set (the kernel only stores it); six bits for each part.
fn type_number(family: Family, parts: &[Type]) -> u32 {
    parts.iter().fold(0, |number, part| {
        let part = match (part, family) {
            (Type::Address, Family::V4) => 7,
            (Type::Address, Family::V6) => 8,
            (Type::Protocol, _) => 12,
            (Type::Service, _) => 13,
            (Type::Ifname, _) => 41,
        };
        number << 6 | part
    })
}

/// Bytes in a key. The parts of a concatenation fill registers of four bytes; a lone part has its own length.
fn type_length(family: Family, parts: &[Type]) -> u32 {
    let length = |part: &Type| match (part, family) {
        (Type::Address, Family::V4) => 4,
        (Type::Address, Family::V6) => 16,
        (Type::Ifname, _) => IFNAME_LEN as u32,
        (Type::Protocol | Type::Service, _) => 4,
    };
    parts.iter().map(length).sum()
}

fn encode_element(batch: &mut Batch, element: &Element) {
    let data = |batch: &mut Batch, kind: u16, bytes: &[u8]| {
        batch.nest(kind, |batch| batch.attr(NFTA_DATA_VALUE, bytes));
    };
    if let [Value::Range(first, last)] = element.key.as_slice() {
        batch.nest(NFTA_LIST_ELEM, |batch| {
            data(batch, NFTA_SET_ELEM_KEY, &octets(*first))
        });
        if let Some(end) = successor(*last) {
            batch.nest(NFTA_LIST_ELEM, |batch| {
                data(batch, NFTA_SET_ELEM_KEY, &octets(end));
                batch.be32(NFTA_SET_ELEM_FLAGS, ELEMENT_INTERVAL_END);
            });
        }
        return;
    }
    batch.nest(NFTA_LIST_ELEM, |batch| {
        data(batch, NFTA_SET_ELEM_KEY, &concatenate(&element.key));
        if !element.data.is_empty() {
            data(batch, NFTA_SET_ELEM_DATA, &concatenate(&element.data));
        }
    });
}

fn concatenate(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for value in values {
        match value {
            Value::Ifname(name) => bytes.extend_from_slice(&ifname(name)),
            Value::Address(address) | Value::Range(address, _) => bytes.extend_from_slice(&octets(*address)),
            Value::Protocol(proto) => bytes.extend_from_slice(&[proto.number(), 0, 0, 0]),
            Value::Service(port) => {
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.extend_from_slice(&[0, 0]);
            }
        }
    }
    bytes
}

fn ifname(name: &str) -> [u8; IFNAME_LEN] {
    let mut bytes = [0; IFNAME_LEN];
    // The last byte stays the terminator.
    for (to, from) in bytes.iter_mut().take(IFNAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn expression(batch: &mut Batch, name: &str, fill: impl FnOnce(&mut Batch)) {
    batch.nest(NFTA_LIST_ELEM, |batch| {
        batch.text(NFTA_EXPR_NAME, name);
        batch.nest(NFTA_EXPR_DATA, fill);
    });
}

fn encode_statement(batch: &mut Batch, family: Family, statement: &Statement) {
    match statement {
        Statement::In(fields, set) => {
            load_all(batch, family, fields);
            lookup(batch, set, false);
        }
        Statement::Block { field, net, negate } => {
            load(batch, family, *field, REG);
            match_block(batch, net, *negate);
        }
        Statement::ToHost => {
            // Type of the destination address (NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR): RTN_LOCAL.
            expression(batch, "fib", |batch| {
                batch.be32(1, REG);
                batch.be32(2, 3);
                batch.be32(3, 2);
            });
            compare(batch, &2u32.to_ne_bytes(), false);
        }
        // NFT_CT_STATE: the bits of IP_CT_ESTABLISHED and IP_CT_RELATED.
        Statement::Established => conntrack_bits(batch, 0, 2 | 4),
        // NFT_CT_STATUS: IPS_DST_NAT.
        Statement::Translated => conntrack_bits(batch, 2, 0x20),
        Statement::Accept => verdict(batch, NF_ACCEPT, None),
        Statement::Drop => verdict(batch, NF_DROP, None),
        Statement::Jump(chain) => verdict(batch, NFT_JUMP, Some(chain)),
        Statement::Masquerade => expression(batch, "masq", |_| {}),
        Statement::Dnat(fields, map) => {
            load_all(batch, family, fields);
            lookup(batch, map, true);
            let port = if family == Family::V4 { REG + 1 } else { REG + 4 };
            // NFT_NAT_DNAT with the smallest address and port that the map had: there is no other.
            expression(batch, "nat", |batch| {
                batch.be32(1, 1);
                batch.be32(2, u32::from(number(family)));
                batch.be32(3, REG);
                batch.be32(5, port);
            });
        }
    }
}

/// Loads fields one behind the other, as a concatenation's key has them.
fn load_all(batch: &mut Batch, family: Family, fields: &[Field]) {
    let mut register = REG;
    for field in fields {
        register += load(batch, family, *field, register);
    }
}

/// Loads a field; tells how many registers it fills.
fn load(batch: &mut Batch, family: Family, field: Field, register: u32) -> u32 {
    let meta = |batch: &mut Batch, key: u32| {
        expression(batch, "meta", |batch| {
            batch.be32(1, register);
            batch.be32(2, key);
        });
    };
    let mut payload = |base: u32, offset: u32, length: u32| {
        expression(batch, "payload", |batch| {
            batch.be32(1, register);
            batch.be32(2, base);
            batch.be32(3, offset);
            batch.be32(4, length);
        });
        length.div_ceil(4)
    };
    // Offsets in the IP headers (RFC 791, RFC 8200); a port is at the same place in TCP, UDP and SCTP.
    match (field, family) {
        (Field::Saddr, Family::V4) => payload(1, 12, 4),
        (Field::Daddr, Family::V4) => payload(1, 16, 4),
        (Field::Saddr, Family::V6) => payload(1, 8, 16),
        (Field::Daddr, Family::V6) => payload(1, 24, 16),
        (Field::Dport, _) => payload(2, 2, 2),
        (Field::Iif, _) => {
            meta(batch, 6);
            4
        }
        (Field::Oif, _) => {
            meta(batch, 7);
            4
        }
        (Field::Protocol, _) => {
            meta(batch, 16);
            1
        }
    }
}

fn lookup(batch: &mut Batch, set: &str, data: bool) {
    expression(batch, "lookup", |batch| {
        batch.text(1, set);
        batch.be32(2, REG);
        if data {
            batch.be32(3, REG);
        }
    });
}

fn match_block(batch: &mut Batch, net: &IpNet, negate: bool) {
    let network = octets(net.network());
    if net.prefix_len() < net.max_prefix_len() {
        bitwise(batch, &octets(net.netmask()));
    }
    compare(batch, &network, negate);
}

/// Keeps the register's bits that are set in the mask.
fn bitwise(batch: &mut Batch, mask: &[u8]) {
    expression(batch, "bitwise", |batch| {
        batch.be32(1, REG);
        batch.be32(2, REG);
        batch.be32(3, mask.len() as u32);
        batch.nest(4, |batch| batch.attr(NFTA_DATA_VALUE, mask));
        batch.nest(5, |batch| batch.attr(NFTA_DATA_VALUE, &vec![0; mask.len()]));
    });
}

fn compare(batch: &mut Batch, value: &[u8], unequal: bool) {
    expression(batch, "cmp", |batch| {
        batch.be32(1, REG);
        batch.be32(2, u32::from(unequal));
        batch.nest(3, |batch| batch.attr(NFTA_DATA_VALUE, value));
    });
}

/// Matches if one of the bits is set in a key of the connection.
fn conntrack_bits(batch: &mut Batch, key: u32, bits: u32) {
    expression(batch, "ct", |batch| {
        batch.be32(1, REG);
        batch.be32(2, key);
    });
    bitwise(batch, &bits.to_ne_bytes());
    compare(batch, &[0; 4], true);
}

fn verdict(batch: &mut Batch, code: i32, chain: Option<&str>) {
    expression(batch, "immediate", |batch| {
        batch.be32(1, REG_VERDICT);
        batch.nest(2, |batch| {
            batch.nest(NFTA_DATA_VERDICT, |batch| {
                batch.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    batch.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    });
}
