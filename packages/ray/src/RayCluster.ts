/**
 * A client of Ray's REST API: packages and jobs.
 *
 * Ray 2.54 or newer. Requests carry the cluster's token; a cluster without one lets everybody who reaches it run
 * code on it (CVE-2023-48022), so it is used on loopback only, or where `allowOpen` says so in so many words.
 *
 * Requests go through `node:http`. Node's `fetch` marks its requests as a browser does, and Ray refuses a browser's writes.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as RayAddress from "./RayAddress.ts"
import {
  AlreadyExists,
  InvalidAddress,
  NotRay,
  RayError,
  TooLarge,
  Unauthorized,
  Unexpected,
  Unreachable,
  UnsupportedVersion
} from "./RayError.ts"
import { cleanText } from "./internal/cleanText.ts"
import { findToken } from "./internal/token.ts"

/** The oldest Ray that is supported: older ones have neither tokens that hold nor the fixes for known holes. @category constants */
export const minimumVersion = "2.54.0"

/** The largest package, in bytes. Ray itself takes up to 500 MiB. @category constants */
export const maxPackageBytes = 256 * 1024 * 1024

/** How long one request may take. @category constants */
export const requestTimeout = Duration.seconds(30)

/** How long uploading a package may take. @category constants */
export const uploadTimeout = Duration.minutes(5)

/** The largest answer that is read, in bytes: a version, a job, an error. @category constants */
export const maxAnswerBytes = 1024 * 1024

/** The largest list of jobs that is read, in bytes. @category constants */
export const maxJobsBytes = 16 * 1024 * 1024

/** The largest log of a job that is read, in bytes. @category constants */
export const maxLogBytes = 64 * 1024 * 1024

/** Longer answers of Ray are cut in error messages, in characters. */
const maxDetail = 2_000

/** A longer version is none, in characters. */
const maxVersion = 100

/** How far a Ray Job is, in Ray's own words. @category models */
export type JobStatus = "PENDING" | "RUNNING" | "STOPPED" | "SUCCEEDED" | "FAILED"

/**
 * What Ray says of a job. A hint, never the truth about the work it did.
 *
 * @category models
 */
export interface Job {
  readonly submissionId: string
  readonly status: JobStatus
  readonly message: string
}

/** Whether a job is over. @category guards */
export const isTerminal = (status: JobStatus): boolean => status !== "PENDING" && status !== "RUNNING"

/**
 * A job to submit.
 *
 * @category models
 */
export interface Submission {
  readonly submissionId: string
  /** A shell command line. */
  readonly entrypoint: string
  /** `gcs://…`, as `uploadPackage` answers. */
  readonly workingDir?: string
  /** Visible to everybody who may list jobs: never a secret. */
  readonly env?: Readonly<Record<string, string>>
  readonly metadata?: Readonly<Record<string, string>>
}

/** A client of one cluster's REST API. @category services */
export class RayCluster extends Context.Service<RayCluster, {
  /** The dashboard's URL. It changes only where `revive` has another cluster to offer. */
  readonly address: string
  /** Makes sure that there is a cluster, where this process is able to: a local head that has died is started again. */
  readonly revive: Effect.Effect<void, RayError>
  readonly version: Effect.Effect<string, RayError>
  /**
   * Uploads a zip under the name of its content's hash, unless it is there already, and answers its `gcs://` URI. The
   * package is pinned for ten minutes; after that it stays while something that uses it runs.
   */
  readonly uploadPackage: (zip: Uint8Array) => Effect.Effect<string, RayError>
  /** Pins a package for another ten minutes. False: it is gone, upload it again. */
  readonly pinPackage: (uri: string) => Effect.Effect<boolean, RayError>
  /** Fails with `AlreadyExists` when the id was ever used, also by a job that ended. */
  readonly submit: (submission: Submission) => Effect.Effect<void, RayError>
  readonly status: (submissionId: string) => Effect.Effect<Option.Option<Job>, RayError>
  /** Submitted jobs that are not over. */
  readonly running: Effect.Effect<ReadonlyArray<Job>, RayError>
  /** SIGTERM, then SIGKILL after the job's own `RAY_JOB_STOP_WAIT_TIME_S`. A job that is over, or unknown, is left alone. */
  readonly stop: (submissionId: string) => Effect.Effect<void, RayError>
  /** What the job printed so far; none for an unknown job. */
  readonly logs: (submissionId: string) => Effect.Effect<Option.Option<string>, RayError>
  /** Forgets a job that is over; its id stays taken until then. */
  readonly delete: (submissionId: string) => Effect.Effect<void, RayError>
}>()("@effect-ray/ray/RayCluster") {}

/**
 * The options of `layer`.
 *
 * @category models
 */
export interface Options {
  /** `http(s)://host:port` of the dashboard. */
  readonly address: string
  /** Default: `RAY_AUTH_TOKEN`, the file at `RAY_AUTH_TOKEN_PATH`, then `~/.ray/auth_token`. */
  readonly token?: Redacted.Redacted<string>
  /** Use a cluster without a token although it is not on loopback. Default false. */
  readonly allowOpen?: boolean
  /** How long one request may take, uploads aside. Default 30 seconds. */
  readonly timeout?: Duration.Duration
}

/** What a proxy says when the dashboard behind it is not there. */
const proxyAlone: ReadonlyArray<number> = [502, 503, 504]

const Version = Schema.Struct({ ray_version: Schema.String.check(Schema.isMaxLength(maxVersion)) })
const JobInfo = Schema.Struct({
  submission_id: Schema.NullOr(Schema.String),
  status: Schema.Literals(["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]),
  message: Schema.NullOr(Schema.String)
})
const Logs = Schema.Struct({ logs: Schema.String })

interface Answer {
  readonly status: number
  readonly body: string
}

const packageUri = /^gcs:\/\/(_ray_pkg_[0-9a-f]+\.zip)$/

const make = Effect.fnUntraced(function*(options: Options) {
  const address = yield* RayAddress.resolve(options.address)
  const token = options.token === undefined ? yield* findToken(options.address) : Option.some(options.token)
  if (Option.isNone(token) && !address.loopback && options.allowOpen !== true) {
    return yield* new RayError({
      reason: new InvalidAddress({
        address: options.address,
        detail: "there is no token, and whoever reaches an open cluster can run code on it",
        fix:
          "Set RAY_AUTH_TOKEN (and RAY_AUTH_MODE=token on the cluster). Where nobody else can reach the cluster, set "
          + "EFFECT_RAY_ALLOW_OPEN_CLUSTER=true (or --allow-open-cluster; for RayCluster.layer, allowOpen)."
      })
    })
  }
  const http = yield* HttpClient.HttpClient

  const secret = Option.match(token, { onNone: () => "", onSome: Redacted.value })
  const clean = (text: string): string => cleanText(text, secret)

  /** No redirect is followed: it could lead the token to somebody else. */
  const send = (
    name: string,
    request: HttpClientRequest.HttpClientRequest,
    { limit = maxAnswerBytes, timeout = options.timeout ?? requestTimeout }: {
      readonly limit?: number
      readonly timeout?: Duration.Duration
    } = {}
  ): Effect.Effect<Answer, RayError> =>
    http.execute(Option.isSome(token) ? HttpClientRequest.bearerToken(request, token.value) : request).pipe(
      Effect.flatMap((response) => Effect.map(response.text, (body): Answer => ({ status: response.status, body }))),
      Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(limit)),
      Effect.scoped,
      Effect.timeout(timeout),
      Effect.mapError((error) => {
        const cause = causeOf(error)
        return new RayError({
          reason: cause instanceof NodeStream.MaxBytesError
            ? new TooLarge({ address: address.url, request: name, limit })
            : isNotHttp(cause)
            ? new NotRay({
              address: address.url,
              detail: `its answer cannot be read as HTTP (${clean(cause.message)})`
            })
            : new Unreachable({ address: address.url, detail: clean(describeTransport(error)) })
        })
      }),
      Effect.filterOrFail(
        (answer) => answer.status !== 401 && answer.status !== 403,
        () => new RayError({ reason: new Unauthorized({ address: address.url, token: Option.isSome(token) }) })
      ),
      Effect.filterOrFail(
        ({ status }) => !proxyAlone.includes(status),
        ({ status }) =>
          new RayError({
            reason: new Unreachable({ address: address.url, detail: `${name} was answered with ${status}` })
          })
      )
    )

  const unexpected = (request: string, { body, status }: Answer) =>
    new RayError({ reason: new Unexpected({ request, status, detail: clean(body).trim().slice(-maxDetail) }) })

  const url = (path: string) => `${address.url}${path}`
  const job = (submissionId: string) => url(`/api/jobs/${encodeURIComponent(submissionId)}`)
  const notRay = (detail: string) => new RayError({ reason: new NotRay({ address: address.url, detail }) })
  const decode = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, request: string, answer: Answer) =>
    Effect.mapError(
      Schema.decodeUnknownEffect(Schema.fromJsonString(schema))(answer.body),
      () => notRay(`it answers ${request} with something else than Ray does`)
    )

  // The first thing that is asked of an address, so whatever else it leads to shows here.
  const version = Effect.gen(function*() {
    const name = "GET /api/version"
    const answer = yield* send(name, HttpClientRequest.get(url("/api/version")))
    if (answer.status !== 200) return yield* notRay(`it answers ${name} with ${answer.status}`)
    const { ray_version } = yield* decode(Version, name, answer)
    return clean(ray_version)
  }).pipe(Effect.withSpan("RayCluster.version"))

  const pinPackage = Effect.fn("RayCluster.pinPackage")(function*(uri: string) {
    const path = `/api/packages/gcs/${packageUri.exec(uri)![1]!}`
    const answer = yield* send(`GET ${path}`, HttpClientRequest.get(url(path)))
    if (answer.status === 200) return true
    if (answer.status === 404) return false
    return yield* unexpected(`GET ${path}`, answer)
  })

  const uploadPackage = Effect.fn("RayCluster.uploadPackage")(function*(zip: Uint8Array) {
    const path = `/api/packages/gcs/${packageName(zip)}`
    const name = `PUT ${path}`
    const uri = `gcs://${packageName(zip)}`
    if (zip.byteLength > maxPackageBytes) {
      return yield* unexpected(name, {
        status: 413,
        body: `the package has ${zip.byteLength} bytes, the limit is ${maxPackageBytes}`
      })
    }
    if (yield* pinPackage(uri)) return uri
    const request = HttpClientRequest.put(url(path)).pipe(HttpClientRequest.bodyUint8Array(zip))
    const answer = yield* send(name, request, { timeout: uploadTimeout })
    if (answer.status !== 200) return yield* unexpected(name, answer)
    yield* pinPackage(uri)
    return uri
  })

  const submit = Effect.fn("RayCluster.submit")(function*(submission: Submission) {
    const name = "POST /api/jobs/"
    const body = {
      entrypoint: submission.entrypoint,
      submission_id: submission.submissionId,
      runtime_env: {
        ...(submission.workingDir === undefined ? {} : { working_dir: submission.workingDir }),
        ...(submission.env === undefined ? {} : { env_vars: submission.env })
      },
      metadata: submission.metadata ?? {}
    }
    const request = HttpClientRequest.post(url("/api/jobs/")).pipe(HttpClientRequest.bodyJsonUnsafe(body))
    const answer = yield* send(name, request)
    if (answer.status === 200) return
    if (answer.body.includes("already exists")) {
      return yield* new RayError({ reason: new AlreadyExists({ submissionId: submission.submissionId }) })
    }
    return yield* unexpected(name, answer)
  }, Effect.retry({ while: headIsStarting, schedule: Schedule.spaced("500 millis"), times: 60 }))

  const status = Effect.fn("RayCluster.status")(function*(submissionId: string) {
    const name = `GET /api/jobs/${submissionId}`
    const answer = yield* send(name, HttpClientRequest.get(job(submissionId)))
    if (answer.status === 404) return Option.none<Job>()
    if (answer.status !== 200) return yield* unexpected(name, answer)
    const info = yield* decode(JobInfo, name, answer)
    return Option.some<Job>({ submissionId, status: info.status, message: clean(info.message ?? "") })
  })

  const running = Effect.gen(function*() {
    const name = "GET /api/jobs/"
    const answer = yield* send(name, HttpClientRequest.get(url("/api/jobs/")), { limit: maxJobsBytes })
    if (answer.status !== 200) return yield* unexpected(name, answer)
    const jobs = yield* decode(Schema.Array(JobInfo), name, answer)
    return jobs.flatMap(({ message, status, submission_id }): ReadonlyArray<Job> =>
      submission_id === null || isTerminal(status)
        ? []
        : [{ submissionId: submission_id, status, message: clean(message ?? "") }]
    )
  })

  const stop = Effect.fn("RayCluster.stop")(function*(submissionId: string) {
    const name = `POST /api/jobs/${submissionId}/stop`
    const answer = yield* send(name, HttpClientRequest.post(`${job(submissionId)}/stop`))
    if (answer.status !== 200 && answer.status !== 404) return yield* unexpected(name, answer)
  })

  const logs = Effect.fn("RayCluster.logs")(function*(submissionId: string) {
    const name = `GET /api/jobs/${submissionId}/logs`
    const answer = yield* send(name, HttpClientRequest.get(`${job(submissionId)}/logs`), { limit: maxLogBytes })
    if (answer.status === 404) return Option.none<string>()
    if (answer.status !== 200) return yield* unexpected(name, answer)
    return Option.some(clean((yield* decode(Logs, name, answer)).logs))
  })

  const delete_ = Effect.fn("RayCluster.delete")(function*(submissionId: string) {
    const name = `DELETE /api/jobs/${submissionId}`
    const answer = yield* send(name, HttpClientRequest.delete(job(submissionId)))
    if (answer.status !== 200 && answer.status !== 404) return yield* unexpected(name, answer)
  })

  return RayCluster.of({
    address: address.url,
    revive: Effect.void,
    version,
    uploadPackage,
    pinPackage,
    submit,
    status,
    running,
    stop,
    logs,
    delete: delete_
  })
})

/** A head that is up, but whose job agent is not yet, says so with the same status as everything else. */
const headIsStarting = (error: RayError): boolean =>
  error.reason._tag === "Unexpected" && error.reason.detail.includes("No available agent")

interface TransportError {
  readonly _tag: string
  readonly message: string
}

const causeOf = (error: TransportError): unknown =>
  (error as { readonly reason?: { readonly cause?: unknown } }).reason?.cause

/** What Node's parser of HTTP says of something else. */
const isNotHttp = (cause: unknown): cause is Error =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" && cause.code.startsWith("HPE_")

const describeTransport = (error: TransportError): string => {
  if (error._tag === "TimeoutError") return "no answer in time"
  const cause = causeOf(error)
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message
}

/**
 * The name of a package: the hash of its content, so equal content is uploaded once.
 *
 * @category formatting
 */
export const packageName = (zip: Uint8Array): string =>
  `_ray_pkg_${createHash("sha256").update(zip).digest("hex").slice(0, 32)}.zip`

/**
 * Whether a version is one that is supported.
 *
 * @category guards
 */
export const isSupported = (version: string): boolean => {
  const parts = (text: string) => text.split(".").map((part) => Number.parseInt(part, 10) || 0)
  const [major = 0, minor = 0] = parts(version)
  const [minimumMajor = 0, minimumMinor = 0] = parts(minimumVersion)
  return major > minimumMajor || (major === minimumMajor && minor >= minimumMinor)
}

/**
 * A client for the cluster at an address. Nothing is sent until it is used: see `check`.
 *
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<RayCluster, RayError> =>
  Layer.provide(Layer.effect(RayCluster, make(options)), NodeHttpClient.layerNodeHttp)

/**
 * Asks the cluster for its version and refuses one that is too old.
 *
 * @category checking
 */
export const check: Effect.Effect<string, RayError, RayCluster> = Effect.gen(function*() {
  const version = yield* (yield* RayCluster).version
  if (isSupported(version)) return version
  return yield* new RayError({ reason: new UnsupportedVersion({ version, minimum: minimumVersion }) })
})
