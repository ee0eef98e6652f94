/**
 * A client of Ray's REST API for packages and jobs. It needs Ray 2.54 or newer.
 *
 * Requests carry the cluster's token. On a cluster without tokens, everyone who reaches it can run code
 * (CVE-2023-48022), so such a cluster is only used on loopback, or if `allowOpen` is set.
 *
 * Requests use `node:http`. Node's `fetch` marks its requests as a browser does, and Ray refuses writes from browsers.
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

/**
 * The oldest supported Ray. Older ones have no reliable tokens, and no fixes for known security holes.
 *
 * @category constants
 */
export const minimumVersion = "2.54.0"

/** The largest package, in bytes. Ray itself accepts up to 500 MiB. @category constants */
export const maxPackageBytes = 256 * 1024 * 1024

/** How long one request may take. @category constants */
export const requestTimeout = Duration.seconds(30)

/** How long uploading a package may take. @category constants */
export const uploadTimeout = Duration.minutes(5)

/** The largest response that is read, in bytes: a version, a job, or an error. @category constants */
export const maxAnswerBytes = 1024 * 1024

/** The largest list of jobs that is read, in bytes. @category constants */
export const maxJobsBytes = 16 * 1024 * 1024

/** The largest log of a job that is read, in bytes. @category constants */
export const maxLogBytes = 64 * 1024 * 1024

/** How many characters of a response an error has, from its end. */
const maxDetail = 2_000

/** The longest version, in characters. A longer text is not a version. */
const maxVersion = 100

/** The status of a Ray Job, as Ray names it. @category models */
export type JobStatus = "PENDING" | "RUNNING" | "STOPPED" | "SUCCEEDED" | "FAILED"

/**
 * What Ray reports about a job. It may be out of date or wrong about the work that the job did.
 *
 * @category models
 */
export interface Job {
  /** The id under which the job was submitted. */
  readonly submissionId: string
  /** The job's status. */
  readonly status: JobStatus
  /** Ray's message about the status, without control characters. Empty if there is none. */
  readonly message: string
}

/** Whether a job has ended. @category guards */
export const isTerminal = (status: JobStatus): boolean => status !== "PENDING" && status !== "RUNNING"

/**
 * A job to submit.
 *
 * @category models
 */
export interface Submission {
  /** The id of the job. It must never have been used on this cluster, unless that job was deleted. */
  readonly submissionId: string
  /** The shell command line that the job runs. */
  readonly entrypoint: string
  /** The package that the job runs in: a `gcs://…` URI that `uploadPackage` returned. Default: none. */
  readonly workingDir?: string
  /**
   * The job's environment variables. Everyone who can list jobs sees them, so they must not be secret. Default: none.
   */
  readonly env?: Readonly<Record<string, string>>
  /** The metadata that Ray shows with the job. Default: none. */
  readonly metadata?: Readonly<Record<string, string>>
}

/** A client of one cluster's REST API. @category services */
export class RayCluster extends Context.Service<RayCluster, {
  /** The dashboard's URL. It only changes if `revive` switches to another cluster. */
  readonly address: string
  /** Makes sure that there is a cluster, if this process can start one: a local head that has died is replaced. */
  readonly revive: Effect.Effect<void, RayError>
  /** Returns the cluster's version of Ray. */
  readonly version: Effect.Effect<string, RayError>
  /**
   * Uploads a zip under the hash of its content, unless it is there already, and returns its `gcs://` URI. The package
   * is pinned for ten minutes. After that it stays only while something runs that uses it.
   */
  readonly uploadPackage: (zip: Uint8Array) => Effect.Effect<string, RayError>
  /** Pins a package for another ten minutes. Returns false if it is gone and must be uploaded again. */
  readonly pinPackage: (uri: string) => Effect.Effect<boolean, RayError>
  /** Submits a job. Fails with `AlreadyExists` if the id has been used, even by a job that has ended. */
  readonly submit: (submission: Submission) => Effect.Effect<void, RayError>
  /** Returns a job, or none if it is unknown. */
  readonly status: (submissionId: string) => Effect.Effect<Option.Option<Job>, RayError>
  /** Returns the submitted jobs that have not ended. */
  readonly running: Effect.Effect<ReadonlyArray<Job>, RayError>
  /**
   * Stops a job with SIGTERM, and with SIGKILL after the job's `RAY_JOB_STOP_WAIT_TIME_S`. Does nothing if the job has
   * ended or is unknown.
   */
  readonly stop: (submissionId: string) => Effect.Effect<void, RayError>
  /** Returns what the job has printed so far, or none if it is unknown. */
  readonly logs: (submissionId: string) => Effect.Effect<Option.Option<string>, RayError>
  /** Deletes a job that has ended, so that its id can be used again. Does nothing if it is unknown. */
  readonly delete: (submissionId: string) => Effect.Effect<void, RayError>
}>()("@effect-ray/ray/RayCluster") {}

/**
 * The options of `layer`.
 *
 * @category models
 */
export interface Options {
  /** The dashboard's URL, in the form `http(s)://host:port`. */
  readonly address: string
  /**
   * The cluster's token. Default: `RAY_AUTH_TOKEN`, then the file at `RAY_AUTH_TOKEN_PATH`, then `~/.ray/auth_token`.
   */
  readonly token?: Redacted.Redacted<string>
  /** Whether to use a cluster without a token that is not on loopback. Default false. */
  readonly allowOpen?: boolean
  /** How long a request other than an upload may take. Default 30 seconds. */
  readonly timeout?: Duration.Duration
}

/** The statuses that a proxy returns if the dashboard behind it is not running. */
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
        detail: "there is no token, and anyone who reaches an open cluster can run code on it",
        fix: "Set RAY_AUTH_TOKEN (and RAY_AUTH_MODE=token on the cluster). If no one else can reach the cluster, set "
          + "EFFECT_RAY_ALLOW_OPEN_CLUSTER=true (or --allow-open-cluster; for RayCluster.layer, allowOpen)."
      })
    })
  }
  const http = yield* HttpClient.HttpClient

  const secret = Option.match(token, { onNone: () => "", onSome: Redacted.value })
  const clean = (text: string): string => cleanText(text, secret)

  /** Sends a request. Redirects are not followed, because they could send the token to another server. */
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
              detail: `its response is not HTTP (${clean(cause.message)})`
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
      () => notRay(`it answers ${request} with something that Ray does not send`)
    )

  // This is the first request to an address, so it finds out if the address leads to something else.
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

/** Whether the head is running, but its job agent is not yet. Ray reports this with the same status as other errors. */
const headIsStarting = (error: RayError): boolean =>
  error.reason._tag === "Unexpected" && error.reason.detail.includes("No available agent")

interface TransportError {
  readonly _tag: string
  readonly message: string
}

const causeOf = (error: TransportError): unknown =>
  (error as { readonly reason?: { readonly cause?: unknown } }).reason?.cause

/** Whether Node's HTTP parser failed, because the response is not HTTP. */
const isNotHttp = (cause: unknown): cause is Error =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" && cause.code.startsWith("HPE_")

const describeTransport = (error: TransportError): string => {
  if (error._tag === "TimeoutError") return "no answer in time"
  const cause = causeOf(error)
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message
}

/**
 * Returns the name of a package. It contains the hash of the content, so equal content is uploaded once.
 *
 * @category formatting
 */
export const packageName = (zip: Uint8Array): string =>
  `_ray_pkg_${createHash("sha256").update(zip).digest("hex").slice(0, 32)}.zip`

/**
 * Whether a version of Ray is supported.
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
 * A client for the cluster at an address. It sends no request until it is used: see `check`. Fails with
 * `InvalidAddress`.
 *
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<RayCluster, RayError> =>
  Layer.provide(Layer.effect(RayCluster, make(options)), NodeHttpClient.layerNodeHttp)

/**
 * Returns the cluster's version. Fails with `UnsupportedVersion` if it is too old.
 *
 * @category checking
 */
export const check: Effect.Effect<string, RayError, RayCluster> = Effect.gen(function*() {
  const version = yield* (yield* RayCluster).version
  if (isSupported(version)) return version
  return yield* new RayError({ reason: new UnsupportedVersion({ version, minimum: minimumVersion }) })
})
