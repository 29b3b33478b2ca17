import Picom from './index.js';

export const { PicomError } = Picom;
export { Picom };
export default Picom;
