import type { Pin } from '../../identity/index.ts'
import { printable } from '../../protocol/index.ts'
import type { Finding } from './finding.ts'
import type { ProofVerdict } from './probe-proof.ts'

/** What one connection to a host's public address showed. */
export interface ProbeSight {
  /** `203.0.113.7:443`. */
  address: string
  /** The proxy through which it went. */
  via?: string | undefined
  /** Why there was no TLS session; the rest is then empty. */
  unreachable?: string | undefined
  /** Pin of the key in the certificate that was shown. */
  leaf?: Pin | undefined
  /** Why a browser would not believe that certificate. */
  untrusted?: string | undefined
  verdict: ProofVerdict
  /** Whose signature stood under the answer. */
  identity?: Pin | undefined
}

/** What the prober knows besides. */
export interface ProbeKnowledge {
  /** Whether the leaf is a key of ours; undefined where that is not known, as from another machine. */
  ownLeaf: boolean | undefined
  /** Whether the nonce came to a terminator of this process; undefined where there is none. */
  arrived: boolean | undefined
  /** Visitors are to believe the certificate: false for self-signed ones. */
  wantsTrust: boolean
  /** Whether the address is one where the gateway is reached; undefined where that is not known. */
  atGateway?: boolean | undefined
}

export type ProbeOutcome = 'ok' | 'foreign leaf' | 'exporter mismatch' | 'nonce never arrived' | 'unreachable'

/** Said with every outcome: a probe is one connection. */
const PROVES =
  'a probe proves that this one connection was not intercepted, and nothing of others: a gateway that spares the address it comes from is not seen by it'
const ELSEWHERE =
  'run `blindgate doctor --probe` on a machine elsewhere, or name proxies in [trust] probe_via, to see what others see'
const INTERCEPTED =
  'take it for intercepted: stop using this gateway for this host, have foreign certificates revoked, and set CAA records'

const OLD_SERVER =
  'or DNS still leads to your old server or a CDN, for this is no address of the gateway: then name its key in [trust] keys, and let DNS lead to the gateway'

/** What a sight comes to. First match wins. */
export function outcomeOf(sight: ProbeSight, { ownLeaf, arrived }: ProbeKnowledge): ProbeOutcome {
  const { unreachable, verdict } = sight
  if (unreachable !== undefined) return 'unreachable'
  if (verdict === 'ok') return 'ok'
  if (verdict === 'foreign_leaf' || (ownLeaf === false && verdict !== 'exporter_mismatch'))
    return 'foreign leaf'
  // It came here, and what came back is not our answer to it.
  if (verdict === 'exporter_mismatch' || arrived === true) return 'exporter mismatch'
  return 'nonce never arrived'
}

/** Tells what a probe showed, what that proves, and what not. Pure. */
export function judgeProbe(host: string, sight: ProbeSight, knowledge: ProbeKnowledge): Finding {
  const outcome = outcomeOf(sight, knowledge)
  const { address, via, untrusted } = sight
  const way = `${address}${via === undefined ? '' : ` through ${via}`}`
  const about = { check: 'probe' as const, about: host }
  const remarks = [PROVES]
  if (outcome === 'ok') {
    if (untrusted !== undefined && knowledge.wantsTrust) {
      return {
        ...about,
        level: 'fail',
        text: `${way} leads to our terminator, but visitors do not believe its certificate (${printable(untrusted)})`,
        advice:
          'get a certificate from an authority that visitors know; if it is from a CA of your own, which they know, name its root as ca_file in [acme]',
        remarks,
      }
    }
    return {
      ...about,
      level: 'ok',
      text: `the TLS session with ${way} ends in our terminator`,
      remarks: via === undefined ? [PROVES, ELSEWHERE] : remarks,
    }
  }
  if (outcome === 'unreachable') {
    return {
      ...about,
      // A proxy may fail by itself; to a direct visit the gateway does not answer.
      level: via === undefined ? 'fail' : 'warn',
      text: `unreachable at ${way} (${printable(sight.unreachable ?? '')})`,
      advice:
        via === undefined
          ? 'see that the gateway runs, serves this host on its tls port, and that its firewall lets visitors in'
          : 'see that the proxy works',
      remarks,
    }
  }
  return {
    ...about,
    level: 'fail',
    alarm: true,
    text: `${outcome} at ${way}: ${storyOf(outcome, sight, knowledge)}`,
    advice: adviceFor(sight, knowledge),
    remarks,
  }
}

function storyOf(
  outcome: ProbeOutcome,
  { leaf, verdict, identity }: ProbeSight,
  knowledge: ProbeKnowledge,
): string {
  const stranger = verdict === 'stranger' ? `; what answered has the key ${identity}, which is not ours` : ''
  if (outcome === 'foreign leaf') {
    return verdict === 'foreign_leaf'
      ? `our terminator shows another certificate than the one that arrived, whose key is ${leaf}: somebody between ends TLS`
      : `the certificate's key ${leaf} is not ours${knowledge.arrived === false ? ', and the nonce never arrived here' : ''}${stranger}`
  }
  if (outcome === 'exporter mismatch') {
    return verdict === 'exporter_mismatch'
      ? 'the certificate is ours and the TLS session is not: somebody else has its key'
      : 'the nonce arrived, and what came back is not what our terminator answers: somebody between ends TLS'
  }
  return `nobody with our key answered there (the certificate's key is ${leaf})${stranger}`
}

function adviceFor({ verdict, identity }: ProbeSight, { atGateway }: ProbeKnowledge): string {
  const advice =
    verdict === 'stranger' && identity !== undefined
      ? `if another machine of yours serves this host with that key, name it in [trust] replicas; else ${INTERCEPTED}`
      : INTERCEPTED
  // Where visitors come in need not be where the gateway is dialled: it is a possibility, and no excuse.
  return atGateway === false ? `${advice}; ${OLD_SERVER}` : advice
}
