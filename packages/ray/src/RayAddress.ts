/**
 * The address of a Ray cluster: the URL of its dashboard, as in `RAY_ADDRESS`.
 *
 * It has the form `http(s)://host:port`. The host must be in a private network, because frames are not encrypted: a
 * public address is refused.
 */
import * as Effect from "effect/Effect"
import * as dns from "node:dns/promises"
import * as net from "node:net"
import { InvalidAddress, RayError } from "./RayError.ts"

/**
 * An address that has been checked.
 *
 * @category models
 */
export interface RayAddress {
  /** The URL, without a trailing slash. */
  readonly url: string
  /** Whether every IP address of the host is a loopback address. */
  readonly loopback: boolean
}

const invalid = (address: string, detail: string, fix: string) =>
  new RayError({ reason: new InvalidAddress({ address, detail, fix }) })

const dashboard = "Give the dashboard's URL, for instance http://127.0.0.1:8265."

/**
 * Parses an address, without looking up its host. Fails with `InvalidAddress`.
 *
 * @category parsing
 */
export const parse = (address: string): Effect.Effect<URL, RayError> => {
  if (address.startsWith("ray://")) {
    return Effect.fail(
      invalid(address, "ray:// is Ray Client's protocol, and effect-ray submits a Ray Job instead", dashboard)
    )
  }
  if (!/^https?:\/\//.test(address)) {
    return Effect.fail(
      invalid(address, "it is not a URL (a bare host:port is the address of Ray's own protocol)", dashboard)
    )
  }
  const url = URL.parse(address)
  if (url === null) return Effect.fail(invalid(address, "it is not a URL", dashboard))
  if (url.username !== "" || url.password !== "") {
    return Effect.fail(invalid(address, "it contains a password", "Set RAY_AUTH_TOKEN instead."))
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    return Effect.fail(invalid(address, "it has more parts than scheme, host and port", dashboard))
  }
  return Effect.succeed(url)
}

const loopback = new net.BlockList()
loopback.addSubnet("127.0.0.0", 8)
loopback.addAddress("::1", "ipv6")

const privateRanges = new net.BlockList()
privateRanges.addSubnet("10.0.0.0", 8)
privateRanges.addSubnet("172.16.0.0", 12)
privateRanges.addSubnet("192.168.0.0", 16)
privateRanges.addSubnet("169.254.0.0", 16)
privateRanges.addSubnet("100.64.0.0", 10)
privateRanges.addSubnet("fc00::", 7, "ipv6")
privateRanges.addSubnet("fe80::", 10, "ipv6")

const within = (list: net.BlockList, ip: string) => list.check(ip, net.isIPv6(ip) ? "ipv6" : "ipv4")

/** Whether an IP address is a loopback address. @category guards */
export const isLoopback = (ip: string): boolean => within(loopback, ip)

/** Whether an IP address is a loopback address or belongs to a private network. @category guards */
export const isPrivate = (ip: string): boolean => isLoopback(ip) || within(privateRanges, ip)

/**
 * Parses an address and looks up its host. Fails with `InvalidAddress` if the host is unknown or not in a private
 * network.
 *
 * @category parsing
 */
export const resolve = Effect.fn("RayAddress.resolve")(function*(
  address: string
): Effect.fn.Return<RayAddress, RayError> {
  const url = yield* parse(address)
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1")
  const found = yield* Effect.tryPromise({
    try: () => dns.lookup(hostname, { all: true }),
    catch: (error) => invalid(address, `its host cannot be found (${String(error)})`, "Check the host's name.")
  })
  const ips = found.map((entry) => entry.address)
  if (!ips.every(isPrivate)) {
    return yield* invalid(
      address,
      `${hostname} is not in a private network, and frames are not encrypted yet`,
      "Reach the cluster through a private network or a tunnel."
    )
  }
  return { url: url.origin, loopback: ips.every(isLoopback) }
})
