/**
 * Whether visitors reach this client unread: what DNS lets authorities do, what certificates there are, and who ends the
 * TLS of a visitor. The judges are pure (`caa`, `ct`, `probe`, `probe-proof`); what asks the network is beside them
 * (`dns`, `…-check`, `…-dial`), and loaded when the first check is due.
 */
export { type Finding, findingKey, type TrustCheck } from './finding.ts'
export { ProbeAnswerer } from './probe-answer.ts'
export { ProbeNonces } from './probe-nonces.ts'
export { probeAnswer } from './probe-proof.ts'
export { ShownKeys } from './shown-keys.ts'
export { subjectsOf, type TrustSubject } from './subjects.ts'
export { type Alarm, type TrustReport, TrustWatch } from './watch.ts'
