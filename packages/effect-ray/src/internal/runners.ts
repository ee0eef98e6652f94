/** The runners that settings can select. */
import type { BrokerError } from "@effect-ray/core/BrokerError"
import type { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Handler from "@effect-ray/core/Handler"
import * as InProcessRunner from "@effect-ray/core/InProcessRunner"
import type { Runner } from "@effect-ray/core/Runner"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as RayCluster from "@effect-ray/ray/RayCluster"
import { RayError, Unreachable } from "@effect-ray/ray/RayError"
import * as RayRunner from "@effect-ray/ray/RayRunner"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Settings from "../Settings.ts"
import type { WorkerModule } from "../WorkerModule.ts"
import { waitFor } from "./patience.ts"

/** The handlers' layer failed. */
export class HandlersFailed extends Schema.TaggedError<HandlersFailed>("effect-ray/HandlersFailed")("HandlersFailed", {
  detail: Schema.String
}) {
  override get message() {
    return `The layer of the worker's handlers could not be built: ${this.detail}`
  }
}

/** Runs attempts as fibers of this process, in parallel or one at a time. */
export const inProcess = (
  { worker }: WorkerModule,
  mode: "in-process" | "sync"
): Layer.Layer<Runner, HandlersFailed> =>
  Layer.catchCause(
    mode === "sync" ? InProcessRunner.layerSync(worker) : InProcessRunner.layer(worker),
    (cause) => Layer.unwrap(Effect.fail(new HandlersFailed({ detail: whyNot(cause) })))
  )

/** The same text that a host on Ray reports. */
export const whyNot = (cause: Cause.Cause<unknown>): string =>
  Cause.hasInterruptsOnly(cause) ? "it interrupted itself" : Handler.defect(cause).stack

/** The settings of a runner on Ray. */
export type RaySettings = Pick<
  Settings.Settings,
  "schema" | "deployment" | "lease" | "gatewayPort" | "gatewayBind" | "gatewayAdvertise"
>

type RayLayer<R> = Layer.Layer<Runner, RayError | BrokerError, R | GatewayRegistry>

const onCluster = ({ path, worker }: WorkerModule, settings: RaySettings): RayLayer<RayCluster.RayCluster> =>
  RayRunner.layer({
    worker,
    module: path,
    deployment: Settings.deploymentOf(settings),
    lease: settings.lease,
    ...given("port", settings.gatewayPort),
    ...given("bind", settings.gatewayBind),
    ...given("advertise", settings.gatewayAdvertise)
  })

const given = <K extends string, A>(key: K, value: Option.Option<A>): { readonly [_ in K]?: A } =>
  Option.isSome(value) ? { [key]: value.value } as { readonly [_ in K]: A } : {}

interface Cluster {
  readonly address: string
  readonly token: Option.Option<Redacted.Redacted<string>>
}

/** The Ray cluster at an address. An open one only if the settings allow it. */
export const cluster = (settings: Pick<Settings.Settings, "allowOpenCluster">, { address, token }: Cluster) =>
  RayCluster.layer({ address, allowOpen: settings.allowOpenCluster, ...given("token", token) })

/** Refuses an address that must not be used. Sends nothing to it. */
export const checkAddress = (
  settings: Pick<Settings.Settings, "allowOpenCluster">,
  at: Cluster
): Effect.Effect<void, RayError> => Effect.asVoid(Effect.scoped(Layer.build(cluster(settings, at))))

/** Waits until the Ray at an address responds, up to the patience. */
export const whenThere = (
  settings: Pick<Settings.Settings, "allowOpenCluster" | "startTimeout">,
  at: Cluster
): Effect.Effect<string, RayError> =>
  waitFor(`Ray at ${at.address}`, Effect.provide(RayCluster.check, cluster(settings, at), { local: true }), {
    patience: settings.startTimeout,
    isOutage: (error) => error.reason._tag === "Unreachable",
    silent: () => new RayError({ reason: new Unreachable({ address: at.address, detail: "no answer in time" }) })
  })

/** Runs attempts on the Ray cluster at an address. */
export const ray = (
  module: WorkerModule,
  settings: RaySettings & Pick<Settings.Settings, "allowOpenCluster">,
  at: Cluster
): RayLayer<never> => Layer.provide(onCluster(module, settings), cluster(settings, at))

/** Runs attempts on the Ray on this machine. */
export const local = (module: WorkerModule, settings: RaySettings): RayLayer<LocalRay.LocalRay> =>
  Layer.provide(onCluster(module, settings), LocalRay.layerCluster)
