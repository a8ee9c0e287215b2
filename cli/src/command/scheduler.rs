//! `operator scheduler …`: how the cluster schedules.

use api::operate::{SchedulerConfigurationResponse, SchedulerSetConfigurationResponse};
use client::public::Query;
use model::scheduler_config::SchedulerConfiguration;
use serde_json::Value;

use super::{Cx, Failure, machine};
use crate::format::pairs;

const PATH: &str = "/v1/operator/scheduler/configuration";
/// Somebody else may set it between the reading and the writing.
const TRIES: usize = 5;

pub async fn get_config(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let failed = |error| Failure::api("Error querying scheduler configuration", &error);
    let (value, _) = cx.client.get::<Value>(PATH, &Query::default()).await.map_err(failed)?;
    if machine {
        return machine::print(cx, &value);
    }
    let response: SchedulerConfigurationResponse = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error querying scheduler configuration: {error}")))?;
    let config = response.scheduler_config.unwrap_or_default();
    let preemption = &config.preemption_config;
    let text = pairs(&[
        ("Scheduler Algorithm", config.scheduler_algorithm.clone()),
        ("Memory Oversubscription", config.memory_oversubscription_enabled.to_string()),
        ("Reject Job Registration", config.reject_job_registration.to_string()),
        ("Pause Eval Broker", config.pause_eval_broker.to_string()),
        ("Preemption System Scheduler", preemption.system_scheduler_enabled.to_string()),
        ("Preemption Service Scheduler", preemption.service_scheduler_enabled.to_string()),
        ("Preemption Batch Scheduler", preemption.batch_scheduler_enabled.to_string()),
        ("Preemption SysBatch Scheduler", preemption.sys_batch_scheduler_enabled.to_string()),
        ("Node Limit For Feasibility Checks", config.node_limit_for_feasibility_checks.to_string()),
        ("Modify Index", config.modify_index.to_string()),
    ]);
    cx.ui.line(text);
    Ok(0)
}

/// Changes what the flags name and keeps the rest. Always a compare-and-set, so that nobody's change is lost.
pub async fn set_config(cx: &mut Cx) -> Result<u8, Failure> {
    let given = cx.flags.some("check-index").map(str::to_owned);
    let check =
        match &given {
            Some(text) => Some(text.parse::<u64>().map_err(|_| {
                Failure::new(format!("Error parsing check-index value {text:?}: a whole number expected"))
            })?),
            None => None,
        };
    for _ in 0..TRIES {
        let failed = |error| Failure::api("Error querying for scheduler configuration", &error);
        let (response, _) =
            cx.client.get::<SchedulerConfigurationResponse>(PATH, &Query::default()).await.map_err(failed)?;
        let mut config = response.scheduler_config.unwrap_or_default();
        let index = check.unwrap_or(config.modify_index.get());
        apply(cx, &mut config)?;
        let query = Query::default().with("cas", index.to_string());
        let sent = cx.writer()?.put::<_, SchedulerSetConfigurationResponse>(PATH, &query, &config).await;
        let (set, _) = sent.map_err(|error| Failure::api("Error setting scheduler configuration", &error))?;
        if set.updated {
            cx.ui.line("Scheduler configuration updated!");
            return Ok(0);
        }
        if given.is_some() {
            break;
        }
    }
    Err(Failure::new("Scheduler configuration could not be atomically updated, please try again"))
}

fn apply(cx: &Cx, config: &mut SchedulerConfiguration) -> Result<(), Failure> {
    let flag = |name: &str, place: &mut bool| -> Result<(), Failure> {
        if let Some(text) = cx.flags.some(name) {
            *place = match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                _ => {
                    return Err(Failure::new(format!(
                        "invalid value {text:?} for flag -{name}: true or false expected"
                    )));
                }
            };
        }
        Ok(())
    };
    if let Some(algorithm) = cx.flags.some("scheduler-algorithm") {
        algorithm.clone_into(&mut config.scheduler_algorithm);
    }
    flag("memory-oversubscription", &mut config.memory_oversubscription_enabled)?;
    flag("reject-job-registration", &mut config.reject_job_registration)?;
    flag("pause-eval-broker", &mut config.pause_eval_broker)?;
    let preemption = &mut config.preemption_config;
    flag("preempt-batch-scheduler", &mut preemption.batch_scheduler_enabled)?;
    flag("preempt-service-scheduler", &mut preemption.service_scheduler_enabled)?;
    flag("preempt-sysbatch-scheduler", &mut preemption.sys_batch_scheduler_enabled)?;
    flag("preempt-system-scheduler", &mut preemption.system_scheduler_enabled)?;
    if let Some(text) = cx.flags.some("node-limit-for-feasibility-checks") {
        config.node_limit_for_feasibility_checks = text.parse().map_err(|_| {
            Failure::new(format!(
                "invalid value {text:?} for flag -node-limit-for-feasibility-checks: a whole number expected"
            ))
        })?;
    }
    Ok(())
}
