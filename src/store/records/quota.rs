//! Holds, denials, operations and saved counters on disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tenant::{TenantV1, TenantV2, TenantV3, TenantV4, from_record, to_record};
use super::{FOURTH_VERSION, SECOND_VERSION, THIRD_VERSION, decode_body, decode_either, encode_as, instant, micros};
use crate::domain::quota::{Charges, Denial, DeniedBy, Item, LimitState, QuotaType, Scope, Window};
use crate::domain::quota::{FinishedHold, Hold, HoldId, HoldState, QuotaSnapshot, SecondSnapshot, WindowSnapshot};
use crate::store::StoreError;
use crate::store::journal::{Operation, PlacedOperation};

/// So many tenants' counters stand in one block.
pub(in crate::store) const STATES_PER_BLOCK: u32 = 256;

#[derive(Serialize, Deserialize)]
enum HoldIdV1 {
    Named(String),
    Anonymous(u64),
}

#[derive(Serialize, Deserialize)]
struct HoldV1 {
    id: HoldIdV1,
    items: Vec<(u8, u128)>,
    granted_at: i64,
    /// From the grant on.
    lives: i64,
    day_start: i64,
    month_start: i64,
}

impl From<&Hold> for HoldV1 {
    fn from(hold: &Hold) -> Self {
        Self {
            id: match &hold.id {
                HoldId::Named(id) => HoldIdV1::Named(id.clone()),
                HoldId::Anonymous(number) => HoldIdV1::Anonymous(*number),
            },
            items: hold.items.iter().map(|item| (item.quota_type.index() as u8, item.amount)).collect(),
            granted_at: micros(hold.granted_at),
            lives: hold.expires_at.micros_since(hold.granted_at),
            day_start: micros(hold.day_start),
            month_start: micros(hold.month_start),
        }
    }
}

impl HoldV1 {
    fn read(self) -> Result<Hold, StoreError> {
        let mut items = Vec::with_capacity(self.items.len());
        for (code, amount) in self.items {
            items.push(Item { quota_type: quota_type(code)?, amount });
        }
        Ok(Hold {
            id: match self.id {
                HoldIdV1::Named(id) => HoldId::Named(id),
                HoldIdV1::Anonymous(number) => HoldId::Anonymous(number),
            },
            items,
            granted_at: instant(self.granted_at),
            expires_at: instant(self.granted_at.saturating_add(self.lives)),
            day_start: instant(self.day_start),
            month_start: instant(self.month_start),
        })
    }
}

/// A type's number on disk is its place in [`QuotaType::ALL`], a window's its place in [`Window::ALL`].
fn quota_type(code: u8) -> Result<QuotaType, StoreError> {
    QuotaType::ALL.get(usize::from(code)).copied().ok_or(StoreError::Damaged("an amount has an unknown type"))
}

#[derive(Serialize, Deserialize)]
struct DenialV1 {
    decision_id: Option<u128>,
    at: i64,
    request_id: Option<String>,
    quota_type: u8,
    window: u8,
    limit: Option<u128>,
    used: u128,
    held: u128,
    resets_at: i64,
    asked: u128,
    count: u64,
}

impl From<&Denial> for DenialV1 {
    fn from(denial: &Denial) -> Self {
        let state = denial.denied_by.state;
        Self {
            decision_id: denial.decision_id.map(|id| id.as_u128()),
            at: micros(denial.at),
            request_id: denial.request_id.clone(),
            quota_type: state.quota_type.index() as u8,
            window: state.window as u8,
            limit: state.limit,
            used: state.used,
            held: state.held,
            resets_at: micros(state.resets_at),
            asked: denial.denied_by.asked,
            count: denial.count,
        }
    }
}

impl DenialV1 {
    fn read(self, observed: bool) -> Result<Denial, StoreError> {
        let window = Window::ALL.get(usize::from(self.window)).copied();
        Ok(Denial {
            decision_id: self.decision_id.map(uuid::Uuid::from_u128),
            at: instant(self.at),
            request_id: self.request_id,
            denied_by: DeniedBy {
                state: LimitState {
                    quota_type: quota_type(self.quota_type)?,
                    window: window.ok_or(StoreError::Damaged("a denial has an unknown window"))?,
                    limit: self.limit,
                    used: self.used,
                    held: self.held,
                    resets_at: instant(self.resets_at),
                },
                asked: self.asked,
                scope: Scope::Tenant,
            },
            count: self.count,
            observed,
        })
    }
}

/// A denial's kind on disk: 0 by a limit of the tenant, 1 by one that only observes, 2 by a ceiling of the platform.
fn kind_of(denial: &Denial) -> u8 {
    match (denial.denied_by.scope, denial.observed) {
        (Scope::Platform, _) => 2,
        (Scope::Tenant, observed) => u8::from(observed),
    }
}

impl DenialV1 {
    fn read_kind(self, kind: u8) -> Result<Denial, StoreError> {
        let mut denial = self.read(kind == 1)?;
        match kind {
            0 | 1 => {}
            2 => denial.denied_by.scope = Scope::Platform,
            _ => return Err(StoreError::Damaged("a denial is of an unknown kind")),
        }
        Ok(denial)
    }
}

/// The second version has the variants after `Tenant`, the third those after `Observed`, the fourth those after
/// `Ceiling`; each reads those before it as they
/// are: a variant's number is its place.
#[derive(Serialize, Deserialize)]
enum OperationRecord {
    Hold(u32, HoldV1),
    Settle(u32, String, u32),
    Release(u32, String),
    Denied(u32, u64, DenialV1),
    Tenant(u32, Box<TenantV1>),
    TenantV2(u32, Box<TenantV2>),
    Observed(u32, u64, DenialV1),
    TenantV3(u32, Box<TenantV3>),
    /// By a ceiling of the platform.
    Ceiling(u32, u64, DenialV1),
    TenantV4(u32, Box<TenantV4>),
}

pub(in crate::store) fn encode_operations(operations: &[PlacedOperation]) -> Result<Vec<u8>, StoreError> {
    let records: Vec<(u32, OperationRecord)> = operations
        .iter()
        .map(|placed| {
            let record = match &placed.operation {
                Operation::Hold { tenant_no, hold } => OperationRecord::Hold(*tenant_no, hold.into()),
                Operation::Settle { tenant_no, reservation_id, events } => {
                    OperationRecord::Settle(*tenant_no, reservation_id.clone(), *events)
                }
                Operation::Release { tenant_no, reservation_id } => {
                    OperationRecord::Release(*tenant_no, reservation_id.clone())
                }
                Operation::Denied { tenant_no, entry_id, denial } => {
                    let record = match kind_of(denial) {
                        0 => OperationRecord::Denied,
                        1 => OperationRecord::Observed,
                        _ => OperationRecord::Ceiling,
                    };
                    record(*tenant_no, *entry_id, denial.into())
                }
                Operation::Tenant { tenant_no, tenant } => {
                    OperationRecord::TenantV4(*tenant_no, Box::new(to_record(tenant)))
                }
            };
            (placed.before_event, record)
        })
        .collect();
    encode_as(FOURTH_VERSION, &records)
}

pub(in crate::store) fn decode_operations(bytes: &[u8]) -> Result<Vec<PlacedOperation>, StoreError> {
    let records: Vec<(u32, OperationRecord)> = match bytes.split_first() {
        Some((&(THIRD_VERSION | FOURTH_VERSION), body)) => decode_body(body)?,
        _ => decode_either(bytes, decode_body, decode_body)?,
    };
    let mut operations = Vec::with_capacity(records.len());
    for (before_event, record) in records {
        let operation = match record {
            OperationRecord::Hold(tenant_no, hold) => Operation::Hold { tenant_no, hold: hold.read()? },
            OperationRecord::Settle(tenant_no, reservation_id, events) => {
                Operation::Settle { tenant_no, reservation_id, events }
            }
            OperationRecord::Release(tenant_no, reservation_id) => Operation::Release { tenant_no, reservation_id },
            OperationRecord::Denied(tenant_no, entry_id, denial) => {
                Operation::Denied { tenant_no, entry_id, denial: denial.read(false)? }
            }
            OperationRecord::Ceiling(tenant_no, entry_id, denial) => {
                Operation::Denied { tenant_no, entry_id, denial: denial.read_kind(2)? }
            }
            OperationRecord::Observed(tenant_no, entry_id, denial) => {
                Operation::Denied { tenant_no, entry_id, denial: denial.read(true)? }
            }
            OperationRecord::Tenant(tenant_no, tenant) => {
                let record = TenantV4::of_the_third(TenantV3::of_the_second(TenantV2::of_the_first(*tenant)));
                Operation::Tenant { tenant_no, tenant: Box::new(from_record(record)?) }
            }
            OperationRecord::TenantV2(tenant_no, tenant) => {
                let record = TenantV4::of_the_third(TenantV3::of_the_second(*tenant));
                Operation::Tenant { tenant_no, tenant: Box::new(from_record(record)?) }
            }
            OperationRecord::TenantV3(tenant_no, tenant) => {
                let record = TenantV4::of_the_third(*tenant);
                Operation::Tenant { tenant_no, tenant: Box::new(from_record(record)?) }
            }
            OperationRecord::TenantV4(tenant_no, tenant) => {
                Operation::Tenant { tenant_no, tenant: Box::new(from_record(*tenant)?) }
            }
        };
        operations.push(PlacedOperation { before_event, operation });
    }
    Ok(operations)
}

/// A denial as it is filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledDenial {
    /// Whose.
    pub tenant_no: u32,
    /// Its place in the log.
    pub entry_id: u64,
    /// What was denied.
    pub denial: Denial,
}

pub(in crate::store) fn encode_denials(denials: &[FiledDenial]) -> Result<Vec<u8>, StoreError> {
    let record = |filed: &FiledDenial| {
        DenialRecord(filed.tenant_no, filed.entry_id, (&filed.denial).into(), kind_of(&filed.denial))
    };
    encode_as(THIRD_VERSION, &denials.iter().map(record).collect::<Vec<_>>())
}

/// Tenant number, entry id, denial, kind. The second version had whether it was only observed, which is the kinds 0 and 1.
#[derive(Serialize, Deserialize)]
struct DenialRecord(u32, u64, DenialV1, u8);

pub(in crate::store) fn decode_denials(bytes: &[u8]) -> Result<Vec<FiledDenial>, StoreError> {
    let first = |body: &[u8]| {
        let records: Vec<(u32, u64, DenialV1)> = decode_body(body)?;
        let filed = records.into_iter();
        Ok(filed.map(|(tenant_no, entry_id, denial)| DenialRecord(tenant_no, entry_id, denial, 0)).collect())
    };
    let records: Vec<DenialRecord> = match bytes.split_first() {
        Some((&THIRD_VERSION, body)) => decode_body(body)?,
        _ => decode_either(bytes, first, decode_body)?,
    };
    let filed = |DenialRecord(tenant_no, entry_id, denial, kind)| {
        Ok(FiledDenial { tenant_no, entry_id, denial: denial.read_kind(kind)? })
    };
    records.into_iter().map(filed).collect()
}

#[derive(Serialize, Deserialize)]
struct WindowV1(i64, i64, Charges, Charges, Charges);

#[derive(Serialize, Deserialize)]
struct FinishedV1 {
    id_hash: u128,
    items_digest: u64,
    state: u8,
    granted_at: i64,
    lives: i64,
    day_start: i64,
    month_start: i64,
    reserved: Option<Charges>,
}

#[derive(Serialize, Deserialize)]
struct QuotaStateV1 {
    as_of: i64,
    day: WindowV1,
    month: WindowV1,
    minute: Vec<(u64, Charges, Charges)>,
    open: Vec<HoldV1>,
    finished: Vec<FinishedV1>,
}

/// Each with the name of the zone that its windows ended by; empty for the platform.
type QuotaStatesV2 = BTreeMap<u32, (QuotaStateV1, String)>;

impl From<&WindowSnapshot> for WindowV1 {
    fn from(window: &WindowSnapshot) -> Self {
        Self(micros(window.start), micros(window.end), window.used, window.held, window.next_used)
    }
}

impl From<WindowV1> for WindowSnapshot {
    fn from(WindowV1(start, end, used, held, next_used): WindowV1) -> Self {
        Self { start: instant(start), end: instant(end), used, held, next_used }
    }
}

const HOLD_STATES: [HoldState; 6] = [
    HoldState::Lapsed,
    HoldState::Released,
    HoldState::Settled { overage: false, lapsed: false },
    HoldState::Settled { overage: true, lapsed: false },
    HoldState::Settled { overage: false, lapsed: true },
    HoldState::Settled { overage: true, lapsed: true },
];

impl From<&FinishedHold> for FinishedV1 {
    fn from(hold: &FinishedHold) -> Self {
        Self {
            id_hash: hold.id_hash,
            items_digest: hold.items_digest,
            // The list holds every state.
            state: HOLD_STATES.iter().position(|state| *state == hold.state).unwrap_or(0) as u8,
            granted_at: micros(hold.granted_at),
            lives: hold.expires_at.micros_since(hold.granted_at),
            day_start: micros(hold.day_start),
            month_start: micros(hold.month_start),
            reserved: hold.reserved,
        }
    }
}

impl FinishedV1 {
    fn read(self) -> Result<FinishedHold, StoreError> {
        Ok(FinishedHold {
            id_hash: self.id_hash,
            items_digest: self.items_digest,
            state: *HOLD_STATES
                .get(usize::from(self.state))
                .ok_or(StoreError::Damaged("a reservation ended in an unknown way"))?,
            granted_at: instant(self.granted_at),
            expires_at: instant(self.granted_at.saturating_add(self.lives)),
            day_start: instant(self.day_start),
            month_start: instant(self.month_start),
            reserved: self.reserved,
        })
    }
}

/// Puts `changed` (sorted, all of one block) into the states of `old`.
pub(in crate::store) fn merge_quota_states(
    old: Option<&[u8]>,
    changed: &[(u32, QuotaSnapshot)],
) -> Result<Vec<u8>, StoreError> {
    let mut states: QuotaStatesV2 = old.map(read_quota_states).transpose()?.unwrap_or_default();
    for (tenant_no, snapshot) in changed {
        let state = QuotaStateV1 {
            as_of: micros(snapshot.as_of),
            day: (&snapshot.day).into(),
            month: (&snapshot.month).into(),
            minute: snapshot.minute.iter().map(|second| (second.second, second.used, second.held)).collect(),
            open: snapshot.open.iter().map(HoldV1::from).collect(),
            finished: snapshot.finished.iter().map(FinishedV1::from).collect(),
        };
        let zone = snapshot.zone.map_or_else(String::new, |zone| zone.name().to_owned());
        states.insert(*tenant_no, (state, zone));
    }
    encode_as(SECOND_VERSION, &states)
}

/// The first version had no zones.
fn read_quota_states(bytes: &[u8]) -> Result<QuotaStatesV2, StoreError> {
    let first = |body: &[u8]| {
        let states: BTreeMap<u32, QuotaStateV1> = decode_body(body)?;
        Ok(states.into_iter().map(|(tenant_no, state)| (tenant_no, (state, String::new()))).collect())
    };
    decode_either(bytes, first, decode_body)
}

pub(in crate::store) fn decode_quota_states(bytes: &[u8]) -> Result<Vec<(u32, QuotaSnapshot)>, StoreError> {
    let states = read_quota_states(bytes)?;
    let mut snapshots = Vec::with_capacity(states.len());
    for (tenant_no, (state, zone)) in states {
        let zone = Some(zone).filter(|zone| !zone.is_empty()).map(|zone| zone.parse()).transpose();
        let mut snapshot = QuotaSnapshot {
            as_of: instant(state.as_of),
            zone: zone.map_err(|_| StoreError::Damaged("saved counters name a zone that does not exist"))?,
            day: state.day.into(),
            month: state.month.into(),
            minute: state
                .minute
                .into_iter()
                .map(|(second, used, held)| SecondSnapshot { second, used, held })
                .collect(),
            ..QuotaSnapshot::default()
        };
        for hold in state.open {
            snapshot.open.push(hold.read()?);
        }
        for hold in state.finished {
            snapshot.finished.push(hold.read()?);
        }
        snapshots.push((tenant_no, snapshot));
    }
    Ok(snapshots)
}
