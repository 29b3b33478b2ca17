import Picom from './index.js';

export const PicomError: typeof Picom.PicomError;
export type PicomError = Picom.PicomError;
export { Picom };
export default Picom;
